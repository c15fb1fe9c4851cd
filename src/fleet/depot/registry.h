// The depot over HTTP: the OCI distribution API (distribution-spec 1.1), so that skopeo, oras and
// other depots read from it and write to it.
//
//   GET /v2/                                        whether this is one
//   GET /v2/_catalog                                repositories
//   GET, HEAD, PUT, DELETE /v2/NAME/manifests/TAG   (or a digest)
//   GET, HEAD /v2/NAME/blobs/sha256:HEX             with Range
//   GET /v2/NAME/tags/list                          n, last
//   POST /v2/NAME/blobs/uploads/                    digest, mount
//   GET, PATCH, PUT, DELETE /v2/NAME/blobs/uploads/ID
//
// Who may do what is decided by whoever calls Handle.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/depot/depot.h"
#include "fleet/depot/uploads.h"
#include "fleet/depot/workers.h"
#include "net/http_server.h"

namespace tandem::fleet {

// What a caller may do.
struct RegistryAccess {
  bool write = false;
  // By the model's name, "demo:int4". Empty: everything may be read.
  std::function<bool(std::string_view name)> may_read;
};

struct RegistryOptions {
  int n_workers = 2;
  size_t max_waiting_jobs = 20'000;  // above what connections there can be
  // Called on a worker when a repository or tag is asked for that the depot does not have: puts it
  // there where it can. May be empty.
  std::function<Status(const oci::Address& address)> provide;
};

// Thread: any. Nothing of it waits for the disk: that is done by workers of its own, which answer.
class Registry {
 public:
  // The depot outlives the registry, and the registry every response that it was given.
  Registry(const Depot* depot, RegistryOptions options);
  ~Registry();

  // "/v2" and everything below it.
  static bool Handles(std::string_view path);

  void Handle(net::HttpRequest request, std::shared_ptr<net::HttpResponse> response,
              RegistryAccess access);

  // For HttpServerOptions::open_body, of callers that may write: what takes the body of a request
  // that goes on with an upload; null for every other request.
  std::unique_ptr<net::BodySink> OpenBody(const net::HttpRequest& head,
                                          std::function<void()> resume);

  // The answer to a call that is not let in.
  static std::string ErrorBody(std::string_view code, std::string_view message);

  Workers& workers() { return workers_; }

 private:
  struct Call;
  struct Target;
  static Target ParseTarget(std::string_view path);
  void Route(Call& call);
  void ShowCatalog(Call& call);
  void ListTags(Call& call);
  void Manifests(Call& call);
  void PutManifest(Call& call);
  void DeleteManifest(Call& call);
  void Blobs(Call& call);
  void BeginUpload(Call& call);
  void ContinueUpload(Call& call);
  void EndUpload(Call& call);
  void PutBack(Call& call, std::unique_ptr<Upload> upload, int status);
  void FinishUpload(Call& call, std::unique_ptr<Upload> upload, std::string_view digest);
  // Manifests of the call's repository that it may read; asks `provide` where `tag` is not there.
  Result<std::vector<StoredManifest>> Readable(Call& call, std::string_view tag);
  bool IsOfRepository(Call& call, std::string_view sha256);

  const Depot* const depot_;
  const RegistryOptions options_;
  Uploads uploads_;
  Workers workers_;  // last: what it runs uses all of the above
};

}  // namespace tandem::fleet
