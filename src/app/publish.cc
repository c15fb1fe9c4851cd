#include "app/publish.h"

#include <system_error>
#include <utility>

#include "engine/packing.h"
#include "os/file.h"

namespace tandem::app {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxLicenseBytes = 1UL << 20;

// A file that goes away with this object, unless it was moved elsewhere.
class ScratchFile {
 public:
  explicit ScratchFile(fs::path path) : path_(std::move(path)) {}
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  const fs::path path_;
};

}  // namespace

fs::path DepotDirectory(const fs::path& data_dir) { return data_dir / "models"; }
fs::path DepotKeyFile(const fs::path& data_dir) { return data_dir / "depot-key.pem"; }

Result<fleet::Manifest> PublishModel(const fleet::Fleet& fleet, const fleet::Depot& depot,
                                     const crypto::SigningKey& key, const Clock& clock,
                                     const PublishOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const fleet::ResolvedModel model, fleet.Resolve(options.model));
  const fleet::CatalogueEntry* entry = fleet.catalogue().Find(model.name);
  fleet::oci::Address address = fleet::oci::AddressOf(model.name);
  if (!options.name.empty()) {
    address = fleet::oci::AddressOf(options.name);
  } else if (entry != nullptr && !entry->variants.empty()) {
    address = {.repository = entry->name, .tag = entry->variants.front().name};
  }
  const fleet::Variant* known = entry != nullptr ? entry->FindVariant(address.tag) : nullptr;
  fleet::PackageManifest manifest{.model = model.name, .variant = {}, .files = {}};
  if (known != nullptr) {
    manifest.variant = *known;
  } else {
    manifest.variant.name = address.tag;
    manifest.variant.quantization = address.tag;
  }
  manifest.variant.manifest_digest.clear();
  if (entry != nullptr) {
    manifest.aliases = entry->aliases;
    manifest.title = entry->title;
    manifest.license = entry->license;
    manifest.shape = entry->shape;
    manifest.min_kept_accuracy_ppm = entry->min_kept_accuracy_ppm;
    if (!entry->built_from.empty()) manifest.built_from.push_back(entry->built_from);
  }
  manifest.created_at_s = UnixSeconds(clock.SystemNow());

  // One at a time, also among processes: the file has one name, so that a killed one leaves one.
  const fs::path folder = depot.directory() / "incoming";
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, os::FileLock::Acquire(folder / "publish.lock"));
  const ScratchFile package(folder / "publish.tandem");
  TANDEM_ASSIGN_OR_RETURN(const bool is_package, engine::IsPackage(model.path));
  if (is_package) {
    std::error_code error;
    fs::copy_file(model.path, package.path(), fs::copy_options::overwrite_existing, error);
    if (error) return ErrnoError(error.value(), fmt::format("copying '{}'", model.path.string()));
  } else {
    TANDEM_ASSIGN_OR_RETURN(
        const engine::PackSummary summary,
        engine::Pack(model.path, package.path(),
                     {.scheme = options.scheme.empty() ? "auto" : options.scheme,
                      .progress = options.progress,
                      .stop = options.stop}));
    manifest.variant.size_bytes = summary.file_bytes;
  }
  TANDEM_ASSIGN_OR_RETURN(engine::PackageDocuments documents,
                          engine::ReadPackageDocuments(package.path()));
  fleet::PublishRequest request{.name = fleet::oci::NameOf(address),
                                .quantization = manifest.variant.quantization,
                                .license = manifest.license,
                                .package = package.path(),
                                .now_s = manifest.created_at_s};
  if (!documents.tokenizer.empty()) {
    request.documents.push_back({.name = "tokenizer.tables",
                                 .media_type = fleet::oci::kTokenizerType,
                                 .content = std::move(documents.tokenizer)});
  }
  if (!documents.chat_template.empty()) {
    request.documents.push_back({.name = "chat_template.jinja",
                                 .media_type = fleet::oci::kTemplateType,
                                 .content = std::move(documents.chat_template)});
  }
  if (!options.license_file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(std::string text, os::ReadFile(options.license_file, kMaxLicenseBytes));
    request.documents.push_back(
        {.name = "LICENSE", .media_type = fleet::oci::kLicenseType, .content = std::move(text)});
  }
  request.manifest = std::move(manifest);
  return fleet::Publish(depot, std::move(request), key, options.stop);
}

}  // namespace tandem::app
