// The depot to the outside: who may call the OCI registry, and what clients of the gateway fetch.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "crypto/signature.h"
#include "fleet/depot/depot.h"
#include "fleet/depot/publish.h"
#include "fleet/depot/registry.h"
#include "fleet/fleet.h"
#include "gateway/auth/key_ring.h"
#include "gateway/package_depot.h"
#include "net/http_server.h"

namespace tandem::app {

struct DepotDoorOptions {
  bool anonymous_read = false;  // pulls need no key
};

// A key of the scope admin may push; any key of the scope chat may pull the models that its policy
// names. Keys come as "Bearer KEY", or as the password of "Basic" with any user, as skopeo and
// other clients of registries send them. Thread: any. What it is made of outlives it.
class DepotDoor final : public gateway::PackageDepot {
 public:
  // Errors: those of Depot::Open and OpenDepotKey.
  static Result<std::unique_ptr<DepotDoor>> Open(const std::filesystem::path& data_dir,
                                                 const fleet::Fleet* fleet,
                                                 gateway::auth::KeyRing* keys, const Clock* clock,
                                                 DepotDoorOptions options);

  static bool Handles(std::string_view path) { return fleet::Registry::Handles(path); }
  // Answers a request of the registry, now or later.
  void Handle(net::HttpRequest request, std::shared_ptr<net::HttpResponse> response);
  // For HttpServerOptions::open_body.
  std::unique_ptr<net::BodySink> OpenBody(const net::HttpRequest& head,
                                          std::function<void()> resume);

  // gateway::PackageDepot:
  void Describe(Question question, Done done) override;

 private:
  DepotDoor(fleet::Depot depot, crypto::SigningKey key, const fleet::Fleet* fleet,
            gateway::auth::KeyRing* keys, const Clock* clock, DepotDoorOptions options);

  // What the caller may do. Errors: kUnauthenticated; those of the key ring.
  Result<fleet::RegistryAccess> Access(const net::Headers& headers) const;
  Status Provide(const fleet::oci::Address& address);
  Result<Package> Find(const Question& question);

  const fleet::Depot depot_;
  const crypto::SigningKey key_;
  const fleet::Fleet* const fleet_;
  gateway::auth::KeyRing* const keys_;
  const Clock* const clock_;
  const DepotDoorOptions options_;
  fleet::Registry registry_;  // last: its workers use all of the above
};

}  // namespace tandem::app
