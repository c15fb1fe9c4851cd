// Door of the fleet wing. Charter: find a model by what a user calls it, get it from the hub, keep
// it on this machine, and say what is there. It joins catalogue (names), fetch (hub) and depot
// (disk), and may include base, os and the rooms of fleet/. Which package fits which device,
// signatures and activation belong to this wing too and are not here yet.
//
// What a model reference may be stands in fleet/catalogue/model_ref.h; how models lie on disk in
// docs/model-store.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "fleet/catalogue/catalogue.h"

namespace tandem::fleet {

class Depot;
class Hub;
class RemoteDepots;
struct HubModel;
struct Manifest;
struct ManifestFile;
struct ModelRef;
struct RemotePackage;

struct FleetOptions {
  std::filesystem::path models_dir;  // made when missing
  // Where models that come with the installation are looked for, in this order.
  std::vector<std::filesystem::path> bundled_dirs = {};
};

// models_dir is DATA_DIR/models. Bundled models are looked for in $TANDEM_SHARE_DIR/models, then
// beside the program as `make install` lays it out (PREFIX/bin/tandem, PREFIX/share/tandem/models),
// then in the checkout that the program was built in (models/demo, from the program's folder up to
// four folders above it).
FleetOptions DefaultFleetOptions(const std::filesystem::path& data_dir);

// What `tandem list` and `tandem show` print.
struct ModelInfo {
  enum class Kind {
    kPulled,     // files of the hub, kept here
    kReference,  // a file of the user's, used where it is
    kBundled,    // part of the installation
  };
  struct File {
    std::string name;
    uint64_t size_bytes = 0;
    std::string sha256 = {};  // empty: not known
  };

  std::string name;
  Kind kind = Kind::kPulled;
  bool complete = true;  // false: a pull that was interrupted; `tandem pull NAME` goes on
  std::filesystem::path path = {};  // the file to open; empty while incomplete
  uint64_t size_bytes = 0;
  uint64_t present_bytes = 0;  // of these, already here
  std::string repo = {};       // kPulled; "USER/NAME"
  std::string revision = {};   // the commit
  std::string quant = {};
  std::string license = {};    // empty: not known
  int64_t installed_at_s = 0;  // seconds since 1970; 0 for a bundled model
  std::vector<File> files = {};
};

// "pulled", "reference", "bundled".
std::string_view ModelKindName(ModelInfo::Kind kind);

// A model that can be opened.
struct ResolvedModel {
  std::string name;  // what to call it in answers: "phi-4-mini", not the alias
  std::filesystem::path path;
};

struct PullProgress {
  enum class Stage {
    kResolving,  // asking the hub what the reference means
    kWaiting,    // another process downloads the same file
    kChecking,   // reading what an earlier pull left
    kDownloading,
    kRetrying,    // a pause of `pause` because of `problem`
    kInstalling,  // everything is here and verified
  };
  Stage stage = Stage::kResolving;
  std::string_view file = {};  // the one under way
  uint64_t done_bytes = 0;     // of all files together
  uint64_t total_bytes = 0;    // 0: not known yet
  std::chrono::milliseconds pause{0};
  std::string_view problem = {};
};
// Called on the pulling thread, often: keep it cheap.
using PullProgressFn = std::function<void(const PullProgress&)>;

struct PullOptions {
  // Depots that have the model under the same name, "http://host:port": asked in this order, after
  // the one that a reference names. TANDEM_DEPOTS adds more for names without one.
  std::vector<std::string> from = {};
  uint64_t max_bytes_per_second = 0;  // 0: no limit
};

struct PullOutcome {
  ModelInfo model;
  bool already_installed = false;
  uint64_t received_bytes = 0;  // from the network, in this call
};

struct RepairOutcome {
  std::string name;
  std::vector<std::string> repaired = {};  // names of the files; empty: all was well
  uint64_t received_bytes = 0;             // from the network
};

struct RemovedModel {
  std::string name;
  uint64_t freed_bytes = 0;
};

struct VerifyOutcome {
  struct File {
    std::string name;
    bool good = false;
    std::string problem;  // where it is not good
  };
  std::string name;
  bool good = false;  // every file is
  std::vector<File> files = {};
};

// Thread: Resolve, List, Show and Remove from any thread at once; one Pull at a time per object.
// Several processes may share models_dir.
class Fleet {
 public:
  // Errors: kIo, kPermissionDenied, ... when models_dir cannot be made or read.
  static Result<std::unique_ptr<Fleet>> Open(FleetOptions options);
  // For tests: another table, hub and clock. All three outlive the fleet.
  static Result<std::unique_ptr<Fleet>> Open(FleetOptions options, const Catalogue& catalogue,
                                             const Hub& hub, const Clock& clock,
                                             const RemoteDepots* depots = nullptr);
  ~Fleet();

  const Catalogue& catalogue() const { return catalogue_; }

  // The file behind a reference, without any network. "hf.co/USER/REPO" finds what is installed of
  // that repository, in the default order of quantisations.
  // Errors (param "model"): kInvalidArgument for a malformed reference; kNotFound for a name that
  //   nobody knows (the message lists the known ones) and for a path where no file is;
  //   kFailedPrecondition for a model that is known but not installed, or whose files have gone:
  //   the message holds the command that installs it.
  Result<ResolvedModel> Resolve(std::string_view reference) const;

  // Installs a model: a name of the catalogue or a hub reference. Goes on where an earlier pull was
  // interrupted, by whatever. A model that is installed whole is left as it is, without asking the
  // hub: remove it first to get a newer version. A depot is asked, and where its tag means another
  // package now, that one replaces the old.
  // Errors: as Hub::Select, RemoteDepots::Select and net::Download; kInvalidArgument for a file's
  // path.
  Result<PullOutcome> Pull(std::string_view reference, const PullProgressFn& progress,
                           const std::stop_token& stop, const PullOptions& options = {}) const;

  // Reads a model's files and fetches what of them is damaged, chunk by chunk where there is a list
  // of chunks, from where they came from or from options.from.
  // Errors: as Resolve and Pull; kFailedPrecondition for a model that was made here and needs
  // options.from, and where a source has another version now.
  Result<RepairOutcome> Repair(std::string_view reference, const PullProgressFn& progress,
                               const std::stop_token& stop, const PullOptions& options = {}) const;

  // Gives a name to a file that stays where it is (and is read from there).
  // Errors: kInvalidArgument for a name that is taken by the catalogue or malformed;
  // kAlreadyExists;
  //   kNotFound.
  Result<ModelInfo> Import(const std::filesystem::path& file, std::string_view name) const;

  // Everything that can be run here, and pulls that were interrupted; by name.
  Result<std::vector<ModelInfo>> List() const;
  // Errors: as Resolve, but an interrupted pull is shown.
  Result<ModelInfo> Show(std::string_view reference) const;

  // Removes a model or an interrupted pull, and the bytes that no other model uses. A file that was
  // imported stays where it is. Errors: kNotFound; kFailedPrecondition for a bundled model and
  // while the model is being pulled.
  Result<RemovedModel> Remove(std::string_view reference) const;

  // Reads a model's files and compares them with what was installed. `progress` gets the bytes
  // read. Errors: as Resolve; kCancelled. A damaged file is an outcome, not an error.
  Result<VerifyOutcome> Verify(std::string_view reference,
                               const std::function<void(uint64_t)>& progress,
                               const std::stop_token& stop) const;

 private:
  Fleet(FleetOptions options, const Catalogue& catalogue, std::unique_ptr<Depot> depot,
        const Clock& clock);

  std::optional<std::filesystem::path> FindBundled(const CatalogueEntry& entry) const;
  // The installed model that `ref` means. Errors: kNotFound, kCorrupt.
  Result<Manifest> FindInstalled(const ModelRef& ref) const;
  Result<Manifest> FindPull(const ModelRef& ref) const;
  Result<Manifest> FindChecked(const ModelRef& ref, std::string_view reference) const;
  std::unexpected<Error> NotHere(const ModelRef& ref) const;
  ModelInfo Describe(const Manifest& manifest, bool complete) const;
  ModelInfo DescribeBundled(const CatalogueEntry& entry, const std::filesystem::path& file) const;
  Result<HubModel> SelectSource(const ModelRef& ref, const std::stop_token& stop) const;
  // How one file is fetched; the rest of a pull is the same for every source.
  struct Fetching;
  using FetchFile = std::function<Result<uint64_t>(const ManifestFile& file, Fetching& fetching)>;
  Result<uint64_t> FetchMissing(Manifest& manifest, const FetchFile& fetch,
                                Fetching& fetching) const;
  Result<Manifest> FetchAndCommit(Manifest manifest, const FetchFile& fetch,
                                  Fetching& fetching) const;
  FetchFile FromHub(HubModel model) const;
  FetchFile FromDepots(std::shared_ptr<const RemoteDepots> depots, RemotePackage package) const;
  std::shared_ptr<const RemoteDepots> DepotsFor(std::string_view reference) const;
  Result<PullOutcome> PullFromDepots(const ModelRef& ref, const std::vector<std::string>& urls,
                                     Fetching& fetching) const;
  // Where the files of an installed model can be had again.
  Result<FetchFile> SourceOf(const Manifest& manifest, const PullOptions& options,
                             const std::stop_token& stop) const;

  FleetOptions options_;
  const Catalogue& catalogue_;
  std::unique_ptr<Depot> depot_;
  std::unique_ptr<Hub> own_hub_;
  const Hub* hub_ = nullptr;
  const RemoteDepots* depots_ = nullptr;  // null: those of the environment
  const Clock& clock_;
};

}  // namespace tandem::fleet
