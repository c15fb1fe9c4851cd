#include "app/depot_door.h"

#include <algorithm>
#include <utility>

#include "app/publish.h"
#include "base/log.h"
#include "crypto/digest.h"

namespace tandem::app {
namespace {

using fleet::oci::AddressOf;

// The key of a request, however it is sent; empty where there is none.
std::string KeyOf(const net::Headers& headers) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view value = headers.Find("Authorization").value_or("");
  if (net::EqualsIgnoreCase(value.substr(0, kBearer.size()), kBearer)) {
    return std::string(value.substr(kBearer.size()));
  }
  auto basic = net::ParseBasicCredentials(value);
  return basic ? std::move(basic->password) : std::string();
}

// A key's models are names as clients say them: "demo" allows every variant of it.
bool Allows(const std::vector<std::string>& models, std::string_view name) {
  return models.empty() || std::ranges::any_of(models, [&](const std::string& model) {
           return model == name || model == AddressOf(name).repository;
         });
}

}  // namespace

Result<std::unique_ptr<DepotDoor>> DepotDoor::Open(const std::filesystem::path& data_dir,
                                                   const fleet::Fleet* fleet,
                                                   gateway::auth::KeyRing* keys, const Clock* clock,
                                                   DepotDoorOptions options) {
  TANDEM_ASSIGN_OR_RETURN(fleet::Depot depot, fleet::Depot::Open(DepotDirectory(data_dir)));
  TANDEM_ASSIGN_OR_RETURN(crypto::SigningKey key, fleet::OpenDepotKey(DepotKeyFile(data_dir)));
  return std::unique_ptr<DepotDoor>(
      new DepotDoor(std::move(depot), std::move(key), fleet, keys, clock, options));
}

DepotDoor::DepotDoor(fleet::Depot depot, crypto::SigningKey key, const fleet::Fleet* fleet,
                     gateway::auth::KeyRing* keys, const Clock* clock, DepotDoorOptions options)
    : depot_(std::move(depot)),
      key_(std::move(key)),
      fleet_(fleet),
      keys_(keys),
      clock_(clock),
      options_(options),
      registry_(&depot_, {.provide = [this](const auto& address) { return Provide(address); }}) {}

Result<fleet::RegistryAccess> DepotDoor::Access(const net::Headers& headers) const {
  const std::string text = KeyOf(headers);
  if (text.empty() && options_.anonymous_read) return fleet::RegistryAccess{};
  TANDEM_ASSIGN_OR_RETURN(const gateway::auth::Principal principal, keys_->Verify(text));
  const gateway::auth::KeyPolicy& policy = principal.policy;
  fleet::RegistryAccess access{.write = policy.admin, .may_read = {}};
  if (!policy.models.empty()) {
    access.may_read = [models = policy.models](std::string_view name) {
      return Allows(models, name);
    };
  }
  return access;
}

void DepotDoor::Handle(net::HttpRequest request, std::shared_ptr<net::HttpResponse> response) {
  auto access = Access(request.headers);
  if (access) return registry_.Handle(std::move(request), std::move(response), *std::move(access));
  const Error& error = access.error();
  const bool unknown = error.code == ErrorCode::kUnauthenticated;
  if (!unknown) log::Error("keys cannot be checked: {}", error.message);
  net::Headers headers = {{"Content-Type", "application/json"},
                          {"Docker-Distribution-API-Version", "registry/2.0"}};
  // What clients of registries answer with the password that they were given.
  if (unknown) headers.Set("WWW-Authenticate", "Basic realm=\"tandem\"");
  response->SendFull(
      unknown ? 401 : 500, std::move(headers),
      fleet::Registry::ErrorBody(unknown ? "UNAUTHORIZED" : "UNKNOWN",
                                 unknown ? error.message : "keys cannot be checked"));
}

std::unique_ptr<net::BodySink> DepotDoor::OpenBody(const net::HttpRequest& head,
                                                   std::function<void()> resume) {
  if (!Handles(head.path)) return nullptr;
  const auto access = Access(head.headers);
  if (!access || !access->write) return nullptr;
  return registry_.OpenBody(head, std::move(resume));
}

// Models that came with the installation are packages for whoever asks; making one of them takes
// well below a second. Others are published by hand, since packing them takes minutes.
Status DepotDoor::Provide(const fleet::oci::Address& address) {
  const fleet::CatalogueEntry* entry = fleet_->catalogue().Find(address.repository);
  const bool bundled = entry != nullptr && !entry->bundled_file.empty();
  const fleet::Variant* variant = nullptr;
  if (bundled) {
    if (!address.tag.empty()) {
      variant = entry->FindVariant(address.tag);
    } else if (!entry->variants.empty()) {
      variant = &entry->variants.front();
    }
  }
  if (variant == nullptr) {
    return Err(ErrorCode::kNotFound, "there is no '{}' here", fleet::oci::NameOf(address));
  }
  const std::string name = fleet::oci::NameOf({entry->name, variant->name});
  if (depot_.Find(name)) return {};  // another call was faster
  TANDEM_ASSIGN_OR_RETURN(
      const fleet::Manifest manifest,
      PublishModel(*fleet_, depot_, key_, *clock_, {.model = entry->name, .name = name}));
  log::Info("published {} ({} bytes)", manifest.name, manifest.size_bytes());
  return {};
}

Result<gateway::PackageDepot::Package> DepotDoor::Find(const Question& question) {
  const fleet::PackageQuestion asked{.model = question.model,
                                     .quantization = question.quantization,
                                     .platform = question.target_platform,
                                     .npu = question.npu};
  const fleet::Catalogue& catalogue = fleet_->catalogue();
  auto found = fleet::FindPackage(depot_, catalogue, asked);
  if (!found) {
    const auto address = fleet::AddressFor(catalogue, asked);
    const Status provided = address ? Provide(*address) : std::unexpected(found.error());
    if (!provided) {
      if (provided.error().code != ErrorCode::kNotFound) {
        log::Warning("making {} available: {}", question.model, provided.error().message);
      }
      return std::unexpected(found.error());
    }
    found = fleet::FindPackage(depot_, catalogue, asked);
    if (!found) return std::unexpected(found.error());
  }
  const fleet::Manifest& manifest = found->manifest;
  const std::string repository = AddressOf(manifest.name).repository;
  const auto path = [&](std::string_view sha256) {
    return fmt::format("/v2/{}/blobs/sha256:{}", repository, sha256);
  };
  Package package{
      .model = found->model,
      .quantization = found->quantization,
      .manifest_path = fmt::format("/v2/{}/manifests/sha256:{}", repository, manifest.digest()),
      .manifest_sha256 = manifest.digest(),
      .files = {},
      .signature_hex = {},
      .key_id = {}};
  std::vector<fleet::ManifestFile> files = manifest.files;
  if (manifest.chunks) files.push_back(*manifest.chunks);
  for (const fleet::ManifestFile& file : files) {
    if (file.media_type == fleet::oci::kTokenizerType && !question.include_tokenizer) continue;
    package.files.push_back({.name = file.name,
                             .path = path(file.sha256),
                             .size_bytes = file.size_bytes,
                             .sha256 = file.sha256,
                             .media_type = file.media_type});
  }
  if (found->signed_manifest && !found->signed_manifest->signatures().empty()) {
    const fleet::ManifestSignature& signature = found->signed_manifest->signatures().front();
    package.key_id = signature.key_id;
    package.signature_hex = crypto::Hex(
        {reinterpret_cast<const uint8_t*>(signature.signature.data()), signature.signature.size()});
  }
  return package;
}

void DepotDoor::Describe(Question question, Done done) {
  const auto shared = std::make_shared<Done>(std::move(done));
  const bool posted = registry_.workers().Post(
      [this, shared, question = std::move(question)] { (*shared)(Find(question)); });
  if (!posted) (*shared)(Err(ErrorCode::kResourceExhausted, "too much waits for the disk"));
}

}  // namespace tandem::app
