// Packages from depots: another `tandem serve`, a registry, or the image layout as files on any web
// server. Several of them stand in for each other, since what is fetched is named by its digest.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/catalogue/oci.h"
#include "net/download.h"
#include "net/retry.h"

namespace tandem::fleet {

struct RemoteDepotOptions {
  // The key for each origin ("http://host:7070"); sent nowhere else.
  std::map<std::string, std::string, std::less<>> keys = {};
  net::RetryPolicy retry = {};
  net::TransferRequest transfer = {};  // time limits
};

// TANDEM_DEPOT_KEY: "ORIGIN=KEY" pairs with blanks between them; a KEY alone is for the origin of
// `reference`.
RemoteDepotOptions RemoteDepotOptionsFromEnvironment(std::string_view reference);

// TANDEM_DEPOTS: URLs with blanks between them, to which a model's name is put.
std::vector<std::string> DepotsFromEnvironment();

// "http://host:port/models/demo:int4", also with "@sha256:HEX" for the tag, in its parts.
struct DepotUrl {
  std::string origin;  // "http://host:port"
  std::string name;    // "models/demo:int4", as written
  std::string digest;  // HEX; empty: the tag counts
};
// Errors: kInvalidArgument (param "model"), saying what is wrong with it.
Result<DepotUrl> ParseDepotUrl(std::string_view url);

// A manifest, and where the blobs that it names can be had.
struct RemotePackage {
  std::string name;    // "demo:int4": what it is called here from now on
  std::string origin;  // the URL that it was found by
  std::string text;    // the manifest
  std::string sha256;  // its digest

  struct Place {
    std::string blobs;  // a blob's URL up to its digest
    std::string key;
  };
  std::vector<Place> places;  // in the order in which they were given
};

// Thread: one call at a time; calls block.
class RemoteDepots {
 public:
  RemoteDepots(RemoteDepotOptions options, net::Surroundings surroundings)
      : options_(std::move(options)), surroundings_(std::move(surroundings)) {}

  // With the keys of the environment, the machine's clock and real pauses.
  static RemoteDepots FromEnvironment(std::string_view reference) {
    return {RemoteDepotOptionsFromEnvironment(reference), net::RealSurroundings()};
  }

  // Asks each of `urls` for its manifest. The first one that has it decides; others count where
  // they have the same. Each is asked by the distribution API first and then for the files of a
  // layout.
  // Errors: of the first of them where none has it: kNotFound, kUnauthenticated (set
  //   TANDEM_DEPOT_KEY), kPermissionDenied, kCorrupt, kUnavailable, kDeadlineExceeded, kCancelled,
  //   kInvalidArgument for what is no URL of a depot.
  Result<RemotePackage> Select(const std::vector<std::string>& urls,
                               const std::stop_token& stop) const;

  struct BlobRequest {
    std::string sha256;
    uint64_t size_bytes = 0;
    std::filesystem::path destination;
    std::filesystem::path part;
    const net::ChunkDigests* chunks = nullptr;
    uint64_t max_bytes_per_second = 0;
  };
  // Errors: as net::Download.
  Result<net::DownloadOutcome> Download(const RemotePackage& package, const BlobRequest& blob,
                                        const net::DownloadProgressFn& progress,
                                        const std::stop_token& stop) const;

 private:
  Result<RemotePackage> Ask(const DepotUrl& url, const std::stop_token& stop) const;
  Result<RemotePackage> AskApi(const DepotUrl& url, const std::stop_token& stop) const;
  Result<RemotePackage> AskLayout(const DepotUrl& url, const std::string& base,
                                  std::string_view name, const std::stop_token& stop) const;
  // One call with retries; any status but a passing failure is a reply.
  Result<net::TextReply> Call(const std::string& url, const std::string& accept,
                              const std::string& key, const std::stop_token& stop) const;
  std::string KeyFor(std::string_view origin) const;

  RemoteDepotOptions options_;
  net::Surroundings surroundings_;
};

}  // namespace tandem::fleet
