#include "fleet/fleet.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include <fmt/ranges.h>

#include "fleet/catalogue/model_ref.h"
#include "fleet/depot/depot.h"
#include "fleet/fetch/hub.h"
#include "fleet/fetch/remote_depot.h"
#include "os/paths.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;

// How often a pull fetches a file again that another process's `rm` took away under it.
constexpr int kMaxCommits = 3;
// build/release/tandem lies two folders below the checkout; a test's program deeper.
constexpr int kCheckoutLevels = 4;

std::unexpected<Error> ModelError(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message), "model"});
}

bool IsFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && !error;
}

uint64_t FileSizeOr0(const fs::path& path) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  return error ? 0 : size;
}

// Among several quantisations of one repository: the hub's default order (gguf_choice.h).
int QuantRank(const Manifest& manifest) {
  if (manifest.quant == "Q4_K_M") return 0;
  return manifest.quant == "Q4_0" ? 1 : 2;
}

Result<Manifest> FindIn(const Result<std::vector<Manifest>>& manifests, const ModelRef& ref) {
  if (!manifests) return std::unexpected(manifests.error());
  const Manifest* best = nullptr;
  for (const Manifest& manifest : *manifests) {
    if (manifest.name == ref.name) return manifest;
    if (ref.kind != ModelRef::Kind::kHub || manifest.repo != ref.hub.repo) continue;
    if (!ref.hub.quant.empty() && manifest.quant != ref.hub.quant) continue;
    if (best == nullptr || QuantRank(manifest) < QuantRank(*best)) best = &manifest;
  }
  if (best != nullptr) return *best;
  return ModelError(ErrorCode::kNotFound, fmt::format("no model '{}'", ref.name));
}

Manifest ManifestOf(const HubModel& model, std::string name, std::string license) {
  Manifest manifest{.name = std::move(name),
                    .repo = model.repo,
                    .revision = model.revision,
                    .quant = model.quant,
                    .license = std::move(license)};
  for (const HubFile& file : model.files) {
    manifest.files.push_back(
        {.name = file.name, .size_bytes = file.size_bytes, .sha256 = file.sha256});
  }
  return manifest;
}

// Where depots are asked for a model: by its URL, by the depots that were named, and for a name, by
// those of the environment.
std::vector<std::string> DepotUrls(const ModelRef& ref, const std::vector<std::string>& from) {
  std::vector<std::string> urls;
  if (ref.kind == ModelRef::Kind::kDepot) urls.push_back(ref.url);
  std::vector<std::string> bases = from;
  const bool by_name = ref.kind == ModelRef::Kind::kName || ref.kind == ModelRef::Kind::kCatalogue;
  if (by_name) {
    for (std::string& base : DepotsFromEnvironment()) bases.push_back(std::move(base));
  }
  for (std::string base : bases) {
    while (base.ends_with('/')) base.pop_back();
    urls.push_back(fmt::format("{}/{}", base, ref.name));
  }
  return urls;
}

// Turns the progress of one file into that of the whole pull.
class FileProgress {
 public:
  FileProgress(const PullProgressFn& report, std::string_view file, uint64_t before_bytes,
               uint64_t total_bytes)
      : report_(report), file_(file), before_bytes_(before_bytes), total_bytes_(total_bytes) {}

  void operator()(const net::DownloadProgress& step) const {
    if (!report_) return;
    report_({.stage = StageOf(step.stage),
             .file = file_,
             .done_bytes = before_bytes_ + step.done_bytes,
             .total_bytes = total_bytes_,
             .pause = step.pause,
             .problem = step.problem});
  }

 private:
  static PullProgress::Stage StageOf(net::DownloadProgress::Stage stage) {
    switch (stage) {
      case net::DownloadProgress::Stage::kWaitingForLock:
        return PullProgress::Stage::kWaiting;
      case net::DownloadProgress::Stage::kCheckingPart:
        return PullProgress::Stage::kChecking;
      case net::DownloadProgress::Stage::kRetrying:
        return PullProgress::Stage::kRetrying;
      case net::DownloadProgress::Stage::kTransferring:
      case net::DownloadProgress::Stage::kFinishing:
        return PullProgress::Stage::kDownloading;
    }
    return PullProgress::Stage::kDownloading;
  }

  const PullProgressFn& report_;
  std::string_view file_;
  uint64_t before_bytes_;
  uint64_t total_bytes_;
};

}  // namespace

std::string_view ModelKindName(ModelInfo::Kind kind) {
  switch (kind) {
    case ModelInfo::Kind::kPulled:
      return "pulled";
    case ModelInfo::Kind::kReference:
      return "reference";
    case ModelInfo::Kind::kBundled:
      return "bundled";
  }
  return "unknown";
}

FleetOptions DefaultFleetOptions(const fs::path& data_dir) {
  FleetOptions options{.models_dir = data_dir / "models"};
  if (const auto share = os::GetEnv("TANDEM_SHARE_DIR")) {
    options.bundled_dirs.push_back(fs::path(*share) / "models");
  }
  if (const Result<fs::path> program = os::ExecutablePath()) {
    fs::path folder = program->parent_path();
    options.bundled_dirs.push_back(folder.parent_path() / "share/tandem/models");
    for (int level = 0; level < kCheckoutLevels && folder.has_relative_path(); ++level) {
      folder = folder.parent_path();
      options.bundled_dirs.push_back(folder / "models/demo");
    }
  }
  return options;
}

Fleet::Fleet(FleetOptions options, const Catalogue& catalogue, std::unique_ptr<Depot> depot,
             const Clock& clock)
    : options_(std::move(options)),
      catalogue_(catalogue),
      depot_(std::move(depot)),
      clock_(clock) {}

Fleet::~Fleet() = default;

Result<std::unique_ptr<Fleet>> Fleet::Open(FleetOptions options) {
  static const RealClock clock;  // stateless
  TANDEM_ASSIGN_OR_RETURN(Depot depot, Depot::Open(options.models_dir));
  std::unique_ptr<Fleet> fleet(new Fleet(std::move(options), Catalogue::BuiltIn(),
                                         std::make_unique<Depot>(std::move(depot)), clock));
  fleet->own_hub_ = std::make_unique<Hub>(Hub::FromEnvironment());
  fleet->hub_ = fleet->own_hub_.get();
  return fleet;
}

Result<std::unique_ptr<Fleet>> Fleet::Open(FleetOptions options, const Catalogue& catalogue,
                                           const Hub& hub, const Clock& clock,
                                           const RemoteDepots* depots) {
  TANDEM_ASSIGN_OR_RETURN(Depot depot, Depot::Open(options.models_dir));
  std::unique_ptr<Fleet> fleet(
      new Fleet(std::move(options), catalogue, std::make_unique<Depot>(std::move(depot)), clock));
  fleet->hub_ = &hub;
  fleet->depots_ = depots;
  return fleet;
}

std::optional<fs::path> Fleet::FindBundled(const CatalogueEntry& entry) const {
  if (entry.bundled_file.empty()) return std::nullopt;
  for (const fs::path& folder : options_.bundled_dirs) {
    if (fs::path file = folder / entry.bundled_file; IsFile(file)) return file.lexically_normal();
  }
  return std::nullopt;
}

Result<Manifest> Fleet::FindInstalled(const ModelRef& ref) const {
  if (ref.kind != ModelRef::Kind::kHub) return depot_->Find(ref.name);
  return FindIn(depot_->List(), ref);
}

Result<Manifest> Fleet::FindPull(const ModelRef& ref) const {
  return FindIn(depot_->ListPulls(), ref);
}

std::unexpected<Error> Fleet::NotHere(const ModelRef& ref) const {
  if (ref.kind == ModelRef::Kind::kName) {
    std::vector<std::string> known;
    for (const CatalogueEntry& entry : catalogue_.entries()) {
      if (!entry.cloud) known.push_back(entry.name);
    }
    if (catalogue_.Find(ref.name) != nullptr) {
      return ModelError(
          ErrorCode::kNotFound,
          fmt::format(
              "'{}' is answered in the cloud and has nothing for a device; give it an "
              "upstream in the configuration, or with 'tandem serve --upstream {}=BASE_URL'",
              ref.name, ref.name));
    }
    return ModelError(
        ErrorCode::kNotFound,
        fmt::format("no model '{}': neither installed here ('tandem list') nor one of {}, "
                    "hf.co/USER/REPO:QUANT, http://HOST:PORT/NAME:TAG of a depot or the path of a "
                    ".gguf file",
                    ref.name, fmt::join(known, ", ")));
  }
  if (ref.entry != nullptr && !ref.entry->bundled_file.empty()) {
    std::vector<std::string> folders;
    for (const fs::path& folder : options_.bundled_dirs) folders.push_back(folder.string());
    return ModelError(
        ErrorCode::kFailedPrecondition,
        fmt::format("'{}' is part of Tandem's installation, but {} is in none of: {}; "
                    "set TANDEM_SHARE_DIR to the folder that has models/{}",
                    ref.name, ref.entry->bundled_file, fmt::join(folders, ", "),
                    ref.entry->bundled_file));
  }
  return ModelError(ErrorCode::kFailedPrecondition,
                    fmt::format("model '{}' is not installed; install it with: tandem pull {}",
                                ref.name, ref.name));
}

Result<ResolvedModel> Fleet::Resolve(std::string_view reference) const {
  TANDEM_ASSIGN_OR_RETURN(const ModelRef ref, ParseModelRef(reference, catalogue_));
  if (ref.kind == ModelRef::Kind::kFile) {
    if (!IsFile(ref.file)) {
      return ModelError(ErrorCode::kNotFound,
                        fmt::format("there is no file '{}'", ref.file.string()));
    }
    return ResolvedModel{.name = ref.name, .path = ref.file};
  }
  if (ref.entry != nullptr) {
    if (auto file = FindBundled(*ref.entry)) {
      return ResolvedModel{.name = ref.name, .path = *std::move(file)};
    }
  }
  const Result<Manifest> manifest = FindInstalled(ref);
  if (!manifest) {
    if (manifest.error().code == ErrorCode::kNotFound) return NotHere(ref);
    return std::unexpected(manifest.error());
  }
  TANDEM_ASSIGN_OR_RETURN(fs::path path, depot_->ModelPath(*manifest));
  return ResolvedModel{.name = manifest->name, .path = std::move(path)};
}

// Asks the sources in order; the next one only when a repository or a file does not exist.
Result<HubModel> Fleet::SelectSource(const ModelRef& ref, const std::stop_token& stop) const {
  if (ref.kind == ModelRef::Kind::kHub) return hub_->Select(ref.hub, stop);
  Result<HubModel> model = Err(ErrorCode::kNotFound, "'{}' has no source", ref.name);
  for (const HubSource& source : ref.entry->sources) {
    model = hub_->Select(source, stop);
    if (model || model.error().code != ErrorCode::kNotFound) break;
  }
  return model;
}

// One pull or repair under way.
struct Fleet::Fetching {
  const PullOptions& options;
  const PullProgressFn& progress;
  const std::stop_token& stop;
  uint64_t before_bytes = 0;  // of the files before the one under way
  uint64_t total_bytes = 0;
  uint64_t received_bytes = 0;
  std::optional<oci::ChunkList> chunks = {};  // once it is here
  net::ChunkDigests digests = {};             // of the file under way

  // What is known of a file's chunks; lives until the next call.
  const net::ChunkDigests* ChunksOf(const ManifestFile& file) {
    if (!chunks) return nullptr;
    const auto found = chunks->files.find(file.sha256);
    const bool fits = found != chunks->files.end() && file.size_bytes > 0 &&
                      found->second.size() == net::ChunkCount(file.size_bytes, chunks->chunk_bytes);
    if (!fits) return nullptr;
    digests = {.chunk_bytes = chunks->chunk_bytes, .digests_hex = found->second};
    return &digests;
  }
  FileProgress ProgressOf(const ManifestFile& file) const {
    return {progress, file.name, before_bytes, total_bytes};
  }
};

Fleet::FetchFile Fleet::FromHub(HubModel model) const {
  return [this, model = std::move(model)](const ManifestFile& file,
                                          Fetching& fetching) -> Result<uint64_t> {
    const auto found = std::ranges::find(model.files, file.sha256, &HubFile::sha256);
    if (found == model.files.end()) {
      return ModelError(ErrorCode::kFailedPrecondition,
                        fmt::format("{} has another '{}' now; remove the model and pull it again",
                                    model.repo, file.name));
    }
    const Hub::Limits limits{.chunks = fetching.ChunksOf(file),
                             .max_bytes_per_second = fetching.options.max_bytes_per_second};
    TANDEM_ASSIGN_OR_RETURN(const net::DownloadOutcome outcome,
                            hub_->Download(*found, depot_->BlobPath(file), depot_->PartPath(file),
                                           limits, fetching.ProgressOf(file), fetching.stop));
    return outcome.received_bytes;
  };
}

std::shared_ptr<const RemoteDepots> Fleet::DepotsFor(std::string_view reference) const {
  if (depots_ != nullptr) return {std::shared_ptr<void>(), depots_};
  return std::make_shared<RemoteDepots>(RemoteDepots::FromEnvironment(reference));
}

Fleet::FetchFile Fleet::FromDepots(std::shared_ptr<const RemoteDepots> depots,
                                   RemotePackage package) const {
  return [this, depots = std::move(depots), package = std::move(package)](
             const ManifestFile& file, Fetching& fetching) -> Result<uint64_t> {
    TANDEM_ASSIGN_OR_RETURN(
        const net::DownloadOutcome outcome,
        depots->Download(package,
                         {.sha256 = file.sha256,
                          .size_bytes = file.size_bytes,
                          .destination = depot_->BlobPath(file),
                          .part = depot_->PartPath(file),
                          .chunks = fetching.ChunksOf(file),
                          .max_bytes_per_second = fetching.options.max_bytes_per_second},
                         fetching.ProgressOf(file), fetching.stop));
    return outcome.received_bytes;
  };
}

// Fetches each file of a manifest that is not here. Returns the bytes received.
Result<uint64_t> Fleet::FetchMissing(Manifest& manifest, const FetchFile& fetch,
                                     Fetching& fetching) const {
  uint64_t received_bytes = 0;
  fetching.before_bytes = 0;
  fetching.total_bytes = manifest.size_bytes();
  const auto fetch_one = [&](const ManifestFile& file) -> Status {
    if (depot_->HasBlob(file)) return {};
    TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, fetch(file, fetching));
    received_bytes += bytes;
    return {};
  };
  // Small documents first: the configuration, and the list by which the rest is checked. The hub
  // has neither, and what a model of the hub has of them was made here.
  if (!manifest.text.empty() && (manifest.repo.empty() || !manifest.origin.empty())) {
    TANDEM_ASSIGN_OR_RETURN(const oci::ImageManifest image, oci::ParseManifest(manifest.text));
    TANDEM_RETURN_IF_ERROR(fetch_one({.name = "configuration",
                                      .size_bytes = image.config.size_bytes,
                                      .sha256 = image.config.sha256}));
    if (manifest.chunks) TANDEM_RETURN_IF_ERROR(fetch_one(*manifest.chunks));
  }
  if (manifest.chunks && depot_->HasBlob(*manifest.chunks)) {
    TANDEM_ASSIGN_OR_RETURN(fetching.chunks, depot_->ReadChunks(manifest));
  }
  for (const ManifestFile& file : manifest.files) {
    TANDEM_RETURN_IF_ERROR(fetch_one(file));
    fetching.before_bytes += file.size_bytes;
  }
  return received_bytes;
}

// The whole of a pull, once it is known what it brings.
Result<Manifest> Fleet::FetchAndCommit(Manifest manifest, const FetchFile& fetch,
                                       Fetching& fetching) const {
  for (int commits = 1;; ++commits) {
    TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, FetchMissing(manifest, fetch, fetching));
    fetching.received_bytes += bytes;
    if (fetching.progress) {
      fetching.progress({.stage = PullProgress::Stage::kInstalling,
                         .done_bytes = fetching.before_bytes,
                         .total_bytes = fetching.total_bytes});
    }
    Result<Manifest> committed = depot_->Commit(manifest, fetching.stop);
    if (committed || committed.error().code != ErrorCode::kUnavailable || commits == kMaxCommits) {
      return committed;
    }
  }
}

Result<PullOutcome> Fleet::PullFromDepots(const ModelRef& ref, const std::vector<std::string>& urls,
                                          Fetching& fetching) const {
  const auto depots = DepotsFor(urls.front());
  TANDEM_ASSIGN_OR_RETURN(RemotePackage package, depots->Select(urls, fetching.stop));
  const std::string name = ref.kind == ModelRef::Kind::kDepot ? package.name : ref.name;
  Result<Manifest> parsed = ParseOciManifest(name, package.text);
  if (!parsed) return Wrap(parsed.error(), fmt::format("the package at {}", package.origin));
  parsed->origin = package.origin;
  parsed->installed_at_s = UnixSeconds(clock_.SystemNow());
  if (const Result<Manifest> here = depot_->Find(name);
      here && here->digest() == package.sha256 && depot_->ModelPath(*here)) {
    return PullOutcome{.model = Describe(*here, true), .already_installed = true};
  }
  TANDEM_RETURN_IF_ERROR(depot_->BeginPull(*parsed));
  TANDEM_ASSIGN_OR_RETURN(
      const Manifest committed,
      FetchAndCommit(*parsed, FromDepots(depots, std::move(package)), fetching));
  return PullOutcome{.model = Describe(committed, true),
                     .already_installed = false,
                     .received_bytes = fetching.received_bytes};
}

Result<PullOutcome> Fleet::Pull(std::string_view reference, const PullProgressFn& progress,
                                const std::stop_token& stop, const PullOptions& options) const {
  TANDEM_ASSIGN_OR_RETURN(const ModelRef ref, ParseModelRef(reference, catalogue_));
  Fetching fetching{.options = options, .progress = progress, .stop = stop};
  if (ref.kind == ModelRef::Kind::kFile) {
    return ModelError(
        ErrorCode::kInvalidArgument,
        fmt::format("'{}' is a file and needs no pull: tandem run {}", reference, reference));
  }
  const std::vector<std::string> urls = DepotUrls(ref, options.from);
  if (progress && !urls.empty()) progress({.stage = PullProgress::Stage::kResolving});
  if (!options.from.empty() || ref.kind == ModelRef::Kind::kDepot) {
    return PullFromDepots(ref, urls, fetching);
  }
  if (ref.entry != nullptr && !ref.entry->bundled_file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(ModelInfo info, Show(reference));
    return PullOutcome{.model = std::move(info), .already_installed = true};
  }
  if (const Result<Manifest> installed = FindInstalled(ref)) {
    if (depot_->ModelPath(*installed)) {
      return PullOutcome{.model = Describe(*installed, true), .already_installed = true};
    }
    // It has lost a file: what it needs is known, and where that was.
    if (!installed->origin.empty()) {
      TANDEM_ASSIGN_OR_RETURN(const FetchFile fetch, SourceOf(*installed, options, stop));
      TANDEM_ASSIGN_OR_RETURN(const Manifest repaired, FetchAndCommit(*installed, fetch, fetching));
      return PullOutcome{.model = Describe(repaired, true),
                         .already_installed = false,
                         .received_bytes = fetching.received_bytes};
    }
  }
  if (!urls.empty()) {
    auto outcome = PullFromDepots(ref, urls, fetching);
    const bool elsewhere = !outcome && outcome.error().code == ErrorCode::kNotFound &&
                           ref.kind != ModelRef::Kind::kName;
    if (!elsewhere) return outcome;
  }
  if (ref.kind == ModelRef::Kind::kName) return NotHere(ref);
  if (progress) progress({.stage = PullProgress::Stage::kResolving});
  TANDEM_ASSIGN_OR_RETURN(HubModel model, SelectSource(ref, stop));
  const bool is_hub = ref.kind == ModelRef::Kind::kHub;
  Manifest manifest = ManifestOf(model, is_hub ? HubModelName(model.repo, model.quant) : ref.name,
                                 is_hub ? std::string() : ref.entry->license);
  manifest.installed_at_s = UnixSeconds(clock_.SystemNow());
  TANDEM_RETURN_IF_ERROR(depot_->BeginPull(manifest));
  TANDEM_ASSIGN_OR_RETURN(const Manifest committed,
                          FetchAndCommit(std::move(manifest), FromHub(std::move(model)), fetching));
  return PullOutcome{.model = Describe(committed, true),
                     .already_installed = false,
                     .received_bytes = fetching.received_bytes};
}

Result<Fleet::FetchFile> Fleet::SourceOf(const Manifest& manifest, const PullOptions& options,
                                         const std::stop_token& stop) const {
  const auto by_digest = [&](const std::string& url) {
    return fmt::format("{}@sha256:{}", url.substr(0, url.find("@sha256:")), manifest.digest());
  };
  std::vector<std::string> urls;
  if (!manifest.origin.empty()) urls.push_back(by_digest(manifest.origin));
  for (const std::string& base : options.from) {
    urls.push_back(by_digest(fmt::format("{}/{}", base, manifest.name)));
  }
  if (!urls.empty()) {
    const auto depots = DepotsFor(urls.front());
    TANDEM_ASSIGN_OR_RETURN(RemotePackage package, depots->Select(urls, stop));
    return FromDepots(depots, std::move(package));
  }
  if (manifest.repo.empty()) {
    return ModelError(
        ErrorCode::kFailedPrecondition,
        fmt::format("'{}' was made on this machine; name a depot that has it with --from, or make "
                    "it again",
                    manifest.name));
  }
  TANDEM_ASSIGN_OR_RETURN(
      HubModel model,
      hub_->Select({.repo = manifest.repo, .quant = manifest.quant, .revision = manifest.revision},
                   stop));
  return FromHub(std::move(model));
}

Result<RepairOutcome> Fleet::Repair(std::string_view reference, const PullProgressFn& progress,
                                    const std::stop_token& stop, const PullOptions& options) const {
  TANDEM_ASSIGN_OR_RETURN(const ModelRef ref, ParseModelRef(reference, catalogue_));
  TANDEM_ASSIGN_OR_RETURN(Manifest manifest, FindChecked(ref, reference));
  if (manifest.by_reference()) {
    return ModelError(
        ErrorCode::kInvalidArgument,
        fmt::format("'{}' is a file of yours, which Tandem never changes", manifest.path.string()));
  }
  const auto checking = [&](uint64_t bytes) {
    if (!progress) return;
    progress({.stage = PullProgress::Stage::kChecking,
              .file = manifest.name,
              .done_bytes = bytes,
              .total_bytes = manifest.size_bytes()});
  };
  TANDEM_ASSIGN_OR_RETURN(const std::vector<VerifiedFile> verified,
                          depot_->Verify(manifest, checking, stop));
  RepairOutcome outcome{.name = manifest.name};
  for (const VerifiedFile& file : verified) {
    if (!file.good) outcome.repaired.push_back(file.name);
  }
  if (outcome.repaired.empty()) return outcome;
  // Nothing is touched before there is somebody who has it.
  TANDEM_ASSIGN_OR_RETURN(const FetchFile fetch, SourceOf(manifest, options, stop));
  const auto is_bad = [&](const ManifestFile& file) {
    return std::ranges::find(outcome.repaired, file.name) != outcome.repaired.end();
  };
  for (const ManifestFile& file : manifest.files) {
    if (is_bad(file)) TANDEM_RETURN_IF_ERROR(depot_->Quarantine(file));
  }
  if (manifest.chunks && is_bad(*manifest.chunks)) {
    TANDEM_RETURN_IF_ERROR(depot_->Quarantine(*manifest.chunks));
    // A list that was made here is made again from the files, and comes out the same.
    if (manifest.origin.empty() && options.from.empty()) {
      manifest.chunks.reset();
      manifest.text.clear();
    }
  }
  Fetching fetching{.options = options, .progress = progress, .stop = stop};
  TANDEM_RETURN_IF_ERROR(FetchAndCommit(std::move(manifest), fetch, fetching));
  outcome.received_bytes = fetching.received_bytes;
  return outcome;
}

Result<ModelInfo> Fleet::Import(const fs::path& file, std::string_view name) const {
  TANDEM_ASSIGN_OR_RETURN(const ModelRef ref, ParseModelRef(name, catalogue_));
  const bool known = catalogue_.Find(name) != nullptr;
  if (ref.kind != ModelRef::Kind::kName || known) {
    return ModelError(ErrorCode::kInvalidArgument,
                      fmt::format("'{}' cannot be given to a file: {}", name,
                                  known ? "the catalogue has a model of that name"
                                        : "a name has no slash and no suffix .gguf"));
  }
  std::error_code error;
  Manifest manifest{.name = ref.name};
  manifest.path = fs::canonical(file, error);
  if (error || !IsFile(manifest.path)) {
    return ModelError(ErrorCode::kNotFound, fmt::format("there is no file '{}'", file.string()));
  }
  manifest.path_size_bytes = FileSizeOr0(manifest.path);
  manifest.installed_at_s = UnixSeconds(clock_.SystemNow());
  TANDEM_RETURN_IF_ERROR(depot_->AddReference(manifest));
  return Describe(manifest, true);
}

ModelInfo Fleet::Describe(const Manifest& manifest, bool complete) const {
  ModelInfo info{
      .name = manifest.name,
      .kind = manifest.by_reference() ? ModelInfo::Kind::kReference : ModelInfo::Kind::kPulled,
      .complete = complete,
      .size_bytes = manifest.size_bytes(),
      .repo = manifest.repo,
      .revision = manifest.revision,
      .quant = manifest.quant,
      .license = manifest.license,
      .installed_at_s = complete ? manifest.installed_at_s : 0};
  if (manifest.by_reference()) {
    info.files.push_back(
        {.name = manifest.path.filename().string(), .size_bytes = manifest.path_size_bytes});
    info.present_bytes = FileSizeOr0(manifest.path);
  }
  for (const ManifestFile& file : manifest.files) {
    info.files.push_back({.name = file.name, .size_bytes = file.size_bytes, .sha256 = file.sha256});
    info.present_bytes += depot_->BytesHere(file);
  }
  if (complete) {
    // A file that has gone makes the model incomplete, whatever the manifest says.
    if (Result<fs::path> path = depot_->ModelPath(manifest)) {
      info.path = *std::move(path);
    } else {
      info.complete = false;
    }
  }
  return info;
}

ModelInfo Fleet::DescribeBundled(const CatalogueEntry& entry, const fs::path& file) const {
  const uint64_t size_bytes = FileSizeOr0(file);
  return {.name = entry.name,
          .kind = ModelInfo::Kind::kBundled,
          .path = file,
          .size_bytes = size_bytes,
          .present_bytes = size_bytes,
          .license = entry.license,
          .files = {{.name = entry.bundled_file, .size_bytes = size_bytes}}};
}

Result<std::vector<ModelInfo>> Fleet::List() const {
  std::vector<ModelInfo> models;
  for (const CatalogueEntry& entry : catalogue_.entries()) {
    if (const auto file = FindBundled(entry)) models.push_back(DescribeBundled(entry, *file));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Manifest> installed, depot_->List());
  for (const Manifest& manifest : installed) models.push_back(Describe(manifest, true));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Manifest> pulls, depot_->ListPulls());
  for (const Manifest& manifest : pulls) {
    if (std::ranges::find(models, manifest.name, &ModelInfo::name) != models.end()) continue;
    models.push_back(Describe(manifest, false));
  }
  std::ranges::sort(models, {}, &ModelInfo::name);
  return models;
}

Result<ModelInfo> Fleet::Show(std::string_view reference) const {
  TANDEM_ASSIGN_OR_RETURN(const ModelRef ref, ParseModelRef(reference, catalogue_));
  if (ref.kind == ModelRef::Kind::kFile) {
    TANDEM_ASSIGN_OR_RETURN(const ResolvedModel model, Resolve(reference));
    const uint64_t size_bytes = FileSizeOr0(model.path);
    return ModelInfo{.name = model.name,
                     .kind = ModelInfo::Kind::kReference,
                     .path = model.path,
                     .size_bytes = size_bytes,
                     .present_bytes = size_bytes,
                     .files = {{.name = model.path.filename().string(), .size_bytes = size_bytes}}};
  }
  if (ref.entry != nullptr) {
    if (const auto file = FindBundled(*ref.entry)) return DescribeBundled(*ref.entry, *file);
  }
  const Result<Manifest> installed = FindInstalled(ref);
  if (installed) return Describe(*installed, true);
  if (installed.error().code != ErrorCode::kNotFound) return std::unexpected(installed.error());
  if (const Result<Manifest> pull = FindPull(ref)) return Describe(*pull, false);
  return NotHere(ref);
}

Result<RemovedModel> Fleet::Remove(std::string_view reference) const {
  TANDEM_ASSIGN_OR_RETURN(const ModelRef ref, ParseModelRef(reference, catalogue_));
  if (ref.kind == ModelRef::Kind::kFile) {
    return ModelError(ErrorCode::kInvalidArgument,
                      fmt::format("'{}' is a file of yours; models are removed by name, see "
                                  "'tandem list'",
                                  reference));
  }
  if (ref.entry != nullptr && !ref.entry->bundled_file.empty()) {
    return ModelError(
        ErrorCode::kFailedPrecondition,
        fmt::format("'{}' is part of Tandem's installation and cannot be removed", ref.name));
  }
  // By the name it is kept under: "hf.co/USER/REPO" may mean "hf.co/USER/REPO:Q4_0". A manifest
  // that is damaged is removed by its own name.
  std::string name = ref.name;
  if (const Result<Manifest> installed = FindInstalled(ref)) {
    name = installed->name;
  } else if (const Result<Manifest> pull = FindPull(ref)) {
    name = pull->name;
  }
  TANDEM_ASSIGN_OR_RETURN(const uint64_t freed_bytes, depot_->Remove(name));
  return RemovedModel{.name = std::move(name), .freed_bytes = freed_bytes};
}

// An installed model whose files can be compared with something.
Result<Manifest> Fleet::FindChecked(const ModelRef& ref, std::string_view reference) const {
  const bool bundled = ref.entry != nullptr && !ref.entry->bundled_file.empty();
  if (ref.kind == ModelRef::Kind::kFile || bundled) {
    return ModelError(
        ErrorCode::kInvalidArgument,
        fmt::format("nothing is recorded that '{}' could be compared with", reference));
  }
  Result<Manifest> manifest = FindInstalled(ref);
  if (!manifest && manifest.error().code == ErrorCode::kNotFound) return NotHere(ref);
  return manifest;
}

Result<VerifyOutcome> Fleet::Verify(std::string_view reference,
                                    const std::function<void(uint64_t)>& progress,
                                    const std::stop_token& stop) const {
  TANDEM_ASSIGN_OR_RETURN(const ModelRef ref, ParseModelRef(reference, catalogue_));
  TANDEM_ASSIGN_OR_RETURN(const Manifest manifest, FindChecked(ref, reference));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<VerifiedFile> files,
                          depot_->Verify(manifest, progress, stop));
  VerifyOutcome outcome{.name = manifest.name, .good = true, .files = {}};
  for (const VerifiedFile& file : files) {
    outcome.good = outcome.good && file.good;
    outcome.files.push_back({.name = file.name, .good = file.good, .problem = file.problem});
  }
  return outcome;
}

}  // namespace tandem::fleet
