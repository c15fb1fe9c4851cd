#include "fleet/depot/registry.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <boost/json.hpp>

#include "base/log.h"
#include "crypto/digest.h"
#include "fleet/depot/blob_response.h"
#include "fleet/depot/upload_sink.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr std::string_view kRoot = "/v2";
constexpr size_t kMaxListed = 1000;

// The code of an error of the depot's, and the status that goes with it.
std::pair<int, std::string_view> WireOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kResourceExhausted:
      return {507, "TOOMANYREQUESTS"};
    case ErrorCode::kInvalidArgument:
      return {400, "DIGEST_INVALID"};
    case ErrorCode::kFailedPrecondition:
      return {400, "MANIFEST_BLOB_UNKNOWN"};
    case ErrorCode::kCorrupt:
    case ErrorCode::kUnsupported:
      return {400, "MANIFEST_INVALID"};
    case ErrorCode::kNotFound:
      return {404, "NAME_UNKNOWN"};
    default:
      return {500, "UNKNOWN"};
  }
}

std::string UploadPath(std::string_view repository, std::string_view id) {
  return fmt::format("{}/{}/blobs/uploads/{}", kRoot, repository, id);
}

// "0-41" for 42 bytes; as the specification has it, nothing is "0-0" too.
std::string UploadRange(uint64_t size_bytes) {
  return fmt::format("0-{}", size_bytes == 0 ? 0 : size_bytes - 1);
}

}  // namespace

// What a path names. `reference` is a tag, a digest or an upload's id.
struct Registry::Target {
  enum class Kind { kNothing, kRoot, kCatalog, kManifest, kBlob, kUploads, kUpload, kTags };
  Kind kind = Kind::kNothing;
  std::string repository;
  std::string reference;
};

struct Registry::Call {
  net::HttpRequest request;
  std::shared_ptr<net::HttpResponse> response;
  RegistryAccess access;
  Target target;
  std::map<std::string, std::string, std::less<>> query;

  net::Headers Headers() const { return {{"Docker-Distribution-API-Version", "registry/2.0"}}; }
  void Fail(int status, std::string_view code, std::string_view message) const {
    net::Headers headers = Headers();
    headers.Set("Content-Type", "application/json");
    response->SendFull(status, std::move(headers), ErrorBody(code, message));
  }
  void Fail(const Error& error) const {
    const auto [status, code] = WireOf(error.code);
    Fail(status, code, error.message);
  }
  void SendJson(const json::value& value, net::Headers headers) const {
    headers.Set("Content-Type", "application/json");
    response->SendFull(200, std::move(headers), json::serialize(value));
  }
  bool is_read() const { return request.method == "GET" || request.method == "HEAD"; }
};

Registry::Registry(const Depot* depot, RegistryOptions options)
    : depot_(depot),
      options_(std::move(options)),
      uploads_(depot),
      workers_(options_.n_workers, options_.max_waiting_jobs) {}

Registry::~Registry() = default;

bool Registry::Handles(std::string_view path) { return path == kRoot || path.starts_with("/v2/"); }

std::string Registry::ErrorBody(std::string_view code, std::string_view message) {
  return json::serialize(
      json::object{{"errors", json::array{json::object{{"code", code}, {"message", message}}}}});
}

Registry::Target Registry::ParseTarget(std::string_view path) {
  Target target;
  path.remove_prefix(std::min(path.size(), kRoot.size()));
  if (path.empty() || path == "/") {
    target.kind = Target::Kind::kRoot;
    return target;
  }
  path.remove_prefix(1);
  if (path == "_catalog") {
    target.kind = Target::Kind::kCatalog;
    return target;
  }
  const auto split = [&](std::string_view middle, Target::Kind kind) {
    const size_t at = path.rfind(middle);
    if (at == path.npos || target.kind != Target::Kind::kNothing) return;
    target = {.kind = kind,
              .repository = std::string(path.substr(0, at)),
              .reference = std::string(path.substr(at + middle.size()))};
  };
  split("/blobs/uploads/", Target::Kind::kUpload);
  if (target.kind == Target::Kind::kUpload && target.reference.empty()) {
    target.kind = Target::Kind::kUploads;
  }
  if (path.ends_with("/blobs/uploads")) split("/blobs/uploads", Target::Kind::kUploads);
  if (path.ends_with("/tags/list")) split("/tags/list", Target::Kind::kTags);
  split("/manifests/", Target::Kind::kManifest);
  split("/blobs/", Target::Kind::kBlob);
  return target;
}

void Registry::Handle(net::HttpRequest request, std::shared_ptr<net::HttpResponse> response,
                      RegistryAccess access) {
  auto call = std::make_shared<Call>(Call{.request = std::move(request),
                                          .response = std::move(response),
                                          .access = std::move(access),
                                          .target = {},
                                          .query = {}});
  const bool posted = workers_.Post([this, call] { Route(*call); });
  if (!posted) call->Fail(503, "TOOMANYREQUESTS", "too much waits for the disk; try again shortly");
}

void Registry::Route(Call& call) {
  using Kind = Target::Kind;
  const auto decoded = net::PercentDecode(call.request.path);
  if (decoded) call.target = ParseTarget(*decoded);
  call.query = net::ParseQuery(call.request.query);
  const Kind kind = call.target.kind;
  if (kind == Kind::kNothing) return call.Fail(404, "NAME_UNKNOWN", "there is no such resource");
  if (kind == Kind::kRoot) return call.SendJson(json::object{}, call.Headers());
  if (kind == Kind::kCatalog) return ShowCatalog(call);
  if (!oci::IsRepository(call.target.repository)) {
    return call.Fail(400, "NAME_INVALID",
                     "a repository's name is made of lower-case letters, digits, '.', '_', '-' "
                     "and '/'");
  }
  const bool writes = !call.is_read() || kind == Kind::kUpload || kind == Kind::kUploads;
  if (writes && !call.access.write) {
    return call.Fail(403, "DENIED", "this key may not write to the depot");
  }
  const std::string& method = call.request.method;
  if (kind == Kind::kTags && call.is_read()) return ListTags(call);
  if (kind == Kind::kManifest && call.is_read()) return Manifests(call);
  if (kind == Kind::kManifest && method == "PUT") return PutManifest(call);
  if (kind == Kind::kManifest && method == "DELETE") return DeleteManifest(call);
  if (kind == Kind::kBlob && call.is_read()) return Blobs(call);
  if (kind == Kind::kUploads && method == "POST") return BeginUpload(call);
  if (kind == Kind::kUpload && (method == "PATCH" || method == "PUT")) return ContinueUpload(call);
  if (kind == Kind::kUpload && (call.is_read() || method == "DELETE")) return EndUpload(call);
  call.Fail(405, "UNSUPPORTED", fmt::format("{} is not done here", method));
}

Result<std::vector<StoredManifest>> Registry::Readable(Call& call, std::string_view tag) {
  const auto of_repository = [&]() -> Result<std::vector<StoredManifest>> {
    TANDEM_ASSIGN_OR_RETURN(std::vector<StoredManifest> all, depot_->ListManifests());
    std::erase_if(all, [&](const StoredManifest& stored) {
      const std::string_view name = std::string_view(stored.name).substr(0, stored.name.find('@'));
      return oci::AddressOf(name).repository != call.target.repository ||
             (call.access.may_read && !call.access.may_read(name));
    });
    return all;
  };
  TANDEM_ASSIGN_OR_RETURN(std::vector<StoredManifest> found, of_repository());
  const bool there =
      tag.empty() ? !found.empty() : std::ranges::any_of(found, [&](const StoredManifest& stored) {
        return oci::AddressOf(stored.name).tag == tag;
      });
  if (there || !options_.provide) return found;
  const oci::Address address{call.target.repository, std::string(tag)};
  if (call.access.may_read && !call.access.may_read(oci::NameOf(address))) return found;
  const Status provided = options_.provide(address);
  if (provided) return of_repository();
  if (provided.error().code != ErrorCode::kNotFound) {
    log::Warning("making {} available: {}", oci::NameOf(address), provided.error().message);
  }
  return found;
}

void Registry::ShowCatalog(Call& call) {
  const auto all = depot_->ListManifests();
  if (!all) return call.Fail(all.error());
  std::set<std::string> repositories;
  for (const StoredManifest& stored : *all) {
    const std::string_view name = std::string_view(stored.name).substr(0, stored.name.find('@'));
    if (call.access.may_read && !call.access.may_read(name)) continue;
    repositories.insert(oci::AddressOf(name).repository);
  }
  call.SendJson(
      json::object{{"repositories", json::array(repositories.begin(), repositories.end())}},
      call.Headers());
}

void Registry::ListTags(Call& call) {
  const auto found = Readable(call, "");
  if (!found) return call.Fail(found.error());
  std::set<std::string> tags;
  for (const StoredManifest& stored : *found) {
    if (!stored.name.contains('@')) tags.insert(oci::AddressOf(stored.name).tag);
  }
  if (found->empty()) {
    return call.Fail(404, "NAME_UNKNOWN",
                     fmt::format("there is no repository '{}'", call.target.repository));
  }
  size_t n = kMaxListed;
  if (const auto text = call.query.find("n"); text != call.query.end()) {
    const auto [end, error] =
        std::from_chars(text->second.data(), text->second.data() + text->second.size(), n);
    if (error != std::errc() || end != text->second.data() + text->second.size()) {
      return call.Fail(400, "UNSUPPORTED", "n must be a number");
    }
    n = std::min(n, kMaxListed);
  }
  const auto last = call.query.find("last");
  auto at = last == call.query.end() ? tags.begin() : tags.upper_bound(last->second);
  json::array listed;
  net::Headers headers = call.Headers();
  for (; at != tags.end() && listed.size() < n; ++at) listed.emplace_back(*at);
  if (at != tags.end() && !listed.empty()) {
    headers.Set("Link", fmt::format("<{}/{}/tags/list?n={}&last={}>; rel=\"next\"", kRoot,
                                    call.target.repository, n,
                                    std::string_view(listed.back().get_string())));
  }
  call.SendJson(json::object{{"name", call.target.repository}, {"tags", std::move(listed)}},
                std::move(headers));
}

void Registry::Manifests(Call& call) {
  const std::string& reference = call.target.reference;
  const auto hex = oci::DigestHex(reference);
  if (!hex && !oci::IsTag(reference)) {
    return call.Fail(400, "MANIFEST_INVALID", "that is neither a tag nor a digest");
  }
  auto found = Readable(call, hex ? "" : reference);
  if (!found) return call.Fail(found.error());
  const auto stored = std::ranges::find_if(*found, [&](const StoredManifest& candidate) {
    return hex ? candidate.sha256 == *hex : oci::AddressOf(candidate.name).tag == reference;
  });
  if (stored == found->end()) {
    return call.Fail(404, "MANIFEST_UNKNOWN",
                     fmt::format("there is no '{}' of '{}'", reference, call.target.repository));
  }
  const std::string digest = fmt::format("sha256:{}", stored->sha256);
  net::Headers headers = call.Headers();
  headers.Set("Docker-Content-Digest", digest);
  headers.Set("ETag", fmt::format("\"{}\"", digest));
  if (call.request.headers.Find("If-None-Match") == fmt::format("\"{}\"", digest)) {
    call.response->SendFull(304, std::move(headers), "");
    return;
  }
  headers.Set("Content-Type", stored->media_type);
  call.response->SendFull(200, std::move(headers), std::move(stored->text));
}

void Registry::PutManifest(Call& call) {
  const std::string& text = call.request.body;
  const std::string& reference = call.target.reference;
  if (text.size() > oci::kMaxManifestBytes) {
    return call.Fail(413, "SIZE_INVALID",
                     fmt::format("a manifest has at most {} bytes", oci::kMaxManifestBytes));
  }
  const std::string sha256 = crypto::Sha256Hex(text);
  const auto hex = oci::DigestHex(reference);
  if (hex && *hex != sha256) {
    return call.Fail(400, "DIGEST_INVALID",
                     fmt::format("the manifest has the digest sha256:{}", sha256));
  }
  if (!hex && !oci::IsTag(reference)) {
    return call.Fail(400, "MANIFEST_INVALID", "that is neither a tag nor a digest");
  }
  const std::string name = hex ? fmt::format("{}@{}", call.target.repository, reference)
                               : oci::NameOf({call.target.repository, reference});
  const auto stored = depot_->StoreManifest(name, text);
  if (!stored) return call.Fail(stored.error());
  if (const auto manifest = oci::ParseManifest(text)) {
    std::vector<std::string> named = {manifest->config.sha256};
    for (const oci::Descriptor& layer : manifest->layers) named.push_back(layer.sha256);
    uploads_.Named(named);
  }
  net::Headers headers = call.Headers();
  headers.Set("Docker-Content-Digest", fmt::format("sha256:{}", sha256));
  headers.Set("Location",
              fmt::format("{}/{}/manifests/sha256:{}", kRoot, call.target.repository, sha256));
  call.response->SendFull(201, std::move(headers), "");
}

void Registry::DeleteManifest(Call& call) {
  const auto found = Readable(call, "");
  if (!found) return call.Fail(found.error());
  const auto hex = oci::DigestHex(call.target.reference);
  bool removed = false;
  for (const StoredManifest& stored : *found) {
    const bool meant =
        hex ? stored.sha256 == *hex : oci::AddressOf(stored.name).tag == call.target.reference;
    if (!meant) continue;
    if (const auto done = depot_->Remove(stored.name); !done) return call.Fail(done.error());
    removed = true;
  }
  if (!removed) return call.Fail(404, "MANIFEST_UNKNOWN", "there is no such manifest");
  call.response->SendFull(202, call.Headers(), "");
}

// A caller that may write sees every blob, since it might be about to name it.
bool Registry::IsOfRepository(Call& call, std::string_view sha256) {
  if (call.access.write) return true;
  const auto found = Readable(call, "");
  if (!found) return false;
  return std::ranges::any_of(*found, [&](const StoredManifest& stored) {
    if (stored.sha256 == sha256) return true;
    const auto manifest = oci::ParseManifest(stored.text);
    if (!manifest) return false;
    return manifest->config.sha256 == sha256 ||
           std::ranges::any_of(manifest->layers, [&](const oci::Descriptor& layer) {
             return layer.sha256 == sha256;
           });
  });
}

void Registry::Blobs(Call& call) {
  const auto hex = oci::DigestHex(call.target.reference);
  if (!hex) return call.Fail(400, "DIGEST_INVALID", "a blob's digest is sha256:HEX");
  if (IsOfRepository(call, *hex) && SendBlob(call.request, call.response, depot_->BlobPath(*hex),
                                             *hex, "application/octet-stream", &workers_)) {
    return;
  }
  call.Fail(404, "BLOB_UNKNOWN",
            fmt::format("'{}' has no blob {}", call.target.repository, call.target.reference));
}

std::unique_ptr<net::BodySink> Registry::OpenBody(const net::HttpRequest& head,
                                                  std::function<void()> resume) {
  if (head.method != "PATCH" && head.method != "PUT") return nullptr;
  if (!Handles(head.path)) return nullptr;
  const Target target = ParseTarget(head.path);
  if (target.kind != Target::Kind::kUpload) return nullptr;
  std::unique_ptr<Upload> upload = uploads_.Take(target.reference);
  if (!upload) return nullptr;
  // Bytes that belong elsewhere must not be written here.
  if (const auto range = head.headers.Find("Content-Range")) {
    uint64_t first = 0;
    const auto [end, error] = std::from_chars(range->data(), range->data() + range->size(), first);
    if (error != std::errc() || *end != '-' || first != upload->size_bytes()) {
      uploads_.Put(std::move(upload));
      return nullptr;
    }
  }
  return std::make_unique<UploadSink>(std::move(upload), &uploads_, &workers_, std::move(resume));
}

void Registry::BeginUpload(Call& call) {
  const std::string& repository = call.target.repository;
  // All repositories share their blobs: what is here is mounted.
  const auto mount = call.query.find("mount");
  const auto hex = mount == call.query.end() ? std::nullopt : oci::DigestHex(mount->second);
  std::error_code ignored;
  if (hex && std::filesystem::exists(depot_->BlobPath(*hex), ignored)) {
    net::Headers headers = call.Headers();
    headers.Set("Location", fmt::format("{}/{}/blobs/{}", kRoot, repository, mount->second));
    headers.Set("Docker-Content-Digest", mount->second);
    call.response->SendFull(201, std::move(headers), "");
    return;
  }
  const auto id = uploads_.Begin();
  if (!id) return call.Fail(id.error());
  std::unique_ptr<Upload> upload = uploads_.Take(*id);
  if (const auto digest = call.query.find("digest"); digest != call.query.end()) {
    if (const Status appended = upload->Append(call.request.body); !appended) {
      return call.Fail(appended.error());
    }
    return FinishUpload(call, std::move(upload), digest->second);
  }
  PutBack(call, std::move(upload), 202);
}

// Answers with where the upload stands, once the next request can have it.
void Registry::PutBack(Call& call, std::unique_ptr<Upload> upload, int status) {
  net::Headers headers = call.Headers();
  headers.Set("Location", UploadPath(call.target.repository, upload->id()));
  headers.Set("Range", UploadRange(upload->size_bytes()));
  headers.Set("Docker-Upload-UUID", upload->id());
  uploads_.Put(std::move(upload));
  std::string body;
  if (status == 416) body = ErrorBody("BLOB_UPLOAD_INVALID", "the bytes do not follow on");
  call.response->SendFull(status, std::move(headers), std::move(body));
}

void Registry::FinishUpload(Call& call, std::unique_ptr<Upload> upload, std::string_view digest) {
  const auto hex = oci::DigestHex(digest);
  if (!hex) return call.Fail(400, "DIGEST_INVALID", "the digest must be sha256:HEX");
  if (const Status finished = uploads_.Finish(std::move(upload), *hex); !finished) {
    return call.Fail(finished.error());
  }
  net::Headers headers = call.Headers();
  headers.Set("Location", fmt::format("{}/{}/blobs/{}", kRoot, call.target.repository, digest));
  headers.Set("Docker-Content-Digest", digest);
  call.response->SendFull(201, std::move(headers), "");
}

void Registry::ContinueUpload(Call& call) {
  const std::shared_ptr<net::BodySink> body_sink = std::exchange(call.request.body_sink, nullptr);
  // What there is to do once the body is on the disk.
  auto shared = std::make_shared<Call>(call);
  auto written = [this, shared](Result<std::unique_ptr<Upload>> upload) {
    if (!upload) return shared->Fail(upload.error());
    if (shared->request.method == "PUT") {
      const auto digest = shared->query.find("digest");
      return FinishUpload(*shared, *std::move(upload),
                          digest == shared->query.end() ? "" : std::string_view(digest->second));
    }
    PutBack(*shared, *std::move(upload), 202);
  };
  // Whoever opened it was OpenBody.
  if (auto* sink = dynamic_cast<UploadSink*>(body_sink.get()); sink != nullptr) {
    return sink->WhenWritten(std::move(written));
  }
  std::unique_ptr<Upload> upload = uploads_.Take(call.target.reference);
  if (!upload) {
    return call.Fail(404, "BLOB_UPLOAD_UNKNOWN",
                     "there is no such upload, or another request goes on with it; begin again");
  }
  if (call.request.headers.Find("Content-Range") && !call.request.body.empty()) {
    return PutBack(call, std::move(upload), 416);
  }
  if (const Status appended = upload->Append(call.request.body); !appended) {
    return call.Fail(appended.error());
  }
  written(std::move(upload));
}

void Registry::EndUpload(Call& call) {
  std::unique_ptr<Upload> upload = uploads_.Take(call.target.reference);
  if (!upload) return call.Fail(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload");
  if (call.is_read()) return PutBack(call, std::move(upload), 204);
  call.response->SendFull(204, call.Headers(), "");  // and the upload ends here
}

}  // namespace tandem::fleet
