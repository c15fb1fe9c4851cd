#include "fleet/fetch/remote_depot.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "crypto/digest.h"
#include "fleet/fetch/content_digest.h"
#include "os/paths.h"

namespace tandem::fleet {
namespace {

constexpr size_t kMaxIndexBytes = 16UL << 20;
constexpr const char* kKeyVariable = "TANDEM_DEPOT_KEY";
constexpr std::string_view kDigestMark = "@sha256:";

std::unexpected<Error> BadUrl(std::string_view url, std::string_view why) {
  return std::unexpected(Error{
      ErrorCode::kInvalidArgument,
      fmt::format("'{}' is no package of a depot: {}", net::UrlForMessages(url), why), "model"});
}

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

}  // namespace

RemoteDepotOptions RemoteDepotOptionsFromEnvironment(std::string_view reference) {
  RemoteDepotOptions options;
  for (const std::string& word : Words(os::GetEnv(kKeyVariable).value_or(""))) {
    const size_t equals = word.find('=');
    if (equals != word.npos) {
      std::string origin = word.substr(0, equals);
      while (origin.ends_with('/')) origin.pop_back();
      options.keys[origin] = word.substr(equals + 1);
    } else if (const auto url = ParseDepotUrl(reference)) {
      options.keys[url->origin] = word;
    }
  }
  return options;
}

std::vector<std::string> DepotsFromEnvironment() {
  std::vector<std::string> depots = Words(os::GetEnv("TANDEM_DEPOTS").value_or(""));
  for (std::string& depot : depots) {
    while (depot.ends_with('/')) depot.pop_back();
  }
  return depots;
}

Result<DepotUrl> ParseDepotUrl(std::string_view text) {
  const size_t scheme = text.find("://");
  if (!text.starts_with("http://") && !text.starts_with("https://")) {
    return BadUrl(text, "it begins with neither http:// nor https://");
  }
  const size_t slash = text.find('/', scheme + 3);
  if (slash == text.npos || slash == scheme + 3 || slash + 1 == text.size()) {
    return BadUrl(text, "a model's name is missing, as in http://HOST:PORT/demo:int4");
  }
  DepotUrl url{.origin = std::string(text.substr(0, slash)),
               .name = std::string(text.substr(slash + 1)),
               .digest = {}};
  if (url.origin.contains('@')) {
    return BadUrl("...", "a user or a password has no place in it; set TANDEM_DEPOT_KEY instead");
  }
  if (const size_t at = url.name.find(kDigestMark); at != url.name.npos) {
    const auto hex = oci::DigestHex(std::string_view(url.name).substr(at + 1));
    if (!hex) return BadUrl(text, "what follows '@' is no digest sha256:HEX");
    url.digest = *hex;
    url.name.resize(at);
  }
  const oci::Address address = oci::AddressOf(url.name);
  if (!oci::IsRepository(address.repository) || !oci::IsTag(address.tag)) {
    return BadUrl(text,
                  "a name is made of letters, digits, '.', '_', '-' and '/', and a tag "
                  "behind ':'");
  }
  return url;
}

std::string RemoteDepots::KeyFor(std::string_view origin) const {
  const auto found = options_.keys.find(origin);
  return found == options_.keys.end() ? std::string() : found->second;
}

Result<net::TextReply> RemoteDepots::Call(const std::string& url, const std::string& accept,
                                          const std::string& key,
                                          const std::stop_token& stop) const {
  net::TransferRequest request = options_.transfer;
  request.url = url;
  request.bearer_token = key;
  if (!accept.empty()) request.headers.Set("Accept", accept);
  for (int failures = 1;; ++failures) {
    Result<net::TextReply> reply =
        net::FetchText(request, *surroundings_.clock, stop, kMaxIndexBytes);
    std::optional<std::chrono::milliseconds> retry_after;
    if (reply) {
      if (!net::IsRetryableStatus(reply->head.status)) return reply;
      if (const auto value = reply->head.headers.Find("retry-after")) {
        retry_after = net::ParseRetryAfter(*value, surroundings_.clock->SystemNow());
      }
      reply = net::StatusError(reply->head);
    } else if (reply.error().code != ErrorCode::kUnavailable &&
               reply.error().code != ErrorCode::kDeadlineExceeded) {
      return reply;
    }
    if (failures >= options_.retry.max_attempts) {
      return Wrap(reply.error(), fmt::format("gave up after {} attempts", failures));
    }
    if (retry_after && *retry_after > options_.retry.max_retry_after) {
      return Wrap(reply.error(), fmt::format("the depot asks to come back in {} seconds",
                                             retry_after->count() / 1000));
    }
    surroundings_.sleeper->SleepFor(
        net::RetryDelay(options_.retry, failures, retry_after, surroundings_.uniform()), stop);
    if (stop.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
  }
}

Result<RemotePackage> RemoteDepots::AskApi(const DepotUrl& url, const std::stop_token& stop) const {
  const oci::Address address = oci::AddressOf(url.name);
  const std::string reference =
      url.digest.empty() ? address.tag : fmt::format("sha256:{}", url.digest);
  const std::string base = fmt::format("{}/v2/{}", url.origin, address.repository);
  const std::string key = KeyFor(url.origin);
  TANDEM_ASSIGN_OR_RETURN(net::TextReply reply,
                          Call(fmt::format("{}/manifests/{}", base, reference),
                               std::string(oci::kManifestType), key, stop));
  if (reply.head.status == 401 || reply.head.status == 403) {
    const auto failure = net::StatusError(reply.head);
    return Wrap(failure.error(), key.empty() ? "the depot wants a key; set TANDEM_DEPOT_KEY"
                                             : "the depot does not take the key");
  }
  if (reply.head.status != 200) return net::StatusError(reply.head);
  return RemotePackage{.name = oci::NameOf(address),
                       .origin = fmt::format("{}/{}", url.origin, url.name),
                       .text = std::move(reply.body),
                       .sha256 = {},
                       .places = {{.blobs = base + "/blobs/sha256:", .key = key}}};
}

Result<RemotePackage> RemoteDepots::AskLayout(const DepotUrl& url, const std::string& base,
                                              std::string_view name,
                                              const std::stop_token& stop) const {
  const std::string key = KeyFor(url.origin);
  TANDEM_ASSIGN_OR_RETURN(const net::TextReply reply, Call(base + "/index.json", "", key, stop));
  if (reply.head.status != 200) return net::StatusError(reply.head);
  const Result<oci::Index> index = oci::ParseIndex(reply.body);
  if (!index) return Wrap(index.error(), base + "/index.json");
  const oci::Address wanted = oci::AddressOf(name);
  for (const oci::Descriptor& entry : index->manifests) {
    const oci::Address address = oci::AddressOf(entry.Annotation(oci::kRefName));
    const bool meant = url.digest.empty()
                           ? address.repository == wanted.repository && address.tag == wanted.tag
                           : entry.sha256 == url.digest;
    if (!meant) continue;
    const std::string blobs = base + "/blobs/sha256/";
    TANDEM_ASSIGN_OR_RETURN(net::TextReply manifest, Call(blobs + entry.sha256, "", key, stop));
    if (manifest.head.status != 200) return net::StatusError(manifest.head);
    if (crypto::Sha256Hex(manifest.body) != entry.sha256) {
      return Err(ErrorCode::kCorrupt, "{}{} is not what index.json says", blobs, entry.sha256);
    }
    return RemotePackage{.name = oci::NameOf(wanted),
                         .origin = fmt::format("{}/{}", url.origin, url.name),
                         .text = std::move(manifest.body),
                         .sha256 = {},
                         .places = {{.blobs = blobs, .key = key}}};
  }
  return Err(ErrorCode::kNotFound, "{} has no '{}'", base, name);
}

Result<RemotePackage> RemoteDepots::Ask(const DepotUrl& url, const std::stop_token& stop) const {
  Result<RemotePackage> found = AskApi(url, stop);
  if (!found && found.error().code == ErrorCode::kNotFound) {
    // The layout may be the root of a web server, or a folder of it.
    const size_t slash = url.name.rfind('/');
    Result<RemotePackage> layout =
        slash == url.name.npos
            ? AskLayout(url, url.origin, url.name, stop)
            : AskLayout(url, fmt::format("{}/{}", url.origin, url.name.substr(0, slash)),
                        url.name.substr(slash + 1), stop);
    if (!layout && layout.error().code == ErrorCode::kNotFound && slash != url.name.npos) {
      layout = AskLayout(url, url.origin, url.name, stop);
    }
    // What a depot says of itself tells more than that there are no such files.
    if (layout || layout.error().code != ErrorCode::kNotFound) found = std::move(layout);
  }
  if (!found) return found;
  found->sha256 = crypto::Sha256Hex(found->text);
  if (!url.digest.empty() && found->sha256 != url.digest) {
    return Err(ErrorCode::kCorrupt, "{} answered with another manifest, sha256:{}", found->origin,
               found->sha256);
  }
  const Result<oci::ImageManifest> manifest = oci::ParseManifest(found->text);
  if (!manifest) return Wrap(manifest.error(), fmt::format("the manifest of {}", found->origin));
  return found;
}

Result<RemotePackage> RemoteDepots::Select(const std::vector<std::string>& urls,
                                           const std::stop_token& stop) const {
  std::optional<RemotePackage> package;
  std::optional<Error> first_error;
  for (const std::string& text : urls) {
    TANDEM_ASSIGN_OR_RETURN(const DepotUrl url, ParseDepotUrl(text));
    Result<RemotePackage> found = Ask(url, stop);
    if (!found) {
      if (found.error().code == ErrorCode::kCancelled) return found;
      if (!first_error) first_error = found.error();
    } else if (!package) {
      package = *std::move(found);
    } else if (found->sha256 == package->sha256) {
      package->places.push_back(std::move(found->places.front()));
    }
  }
  if (package) return *std::move(package);
  if (first_error) return std::unexpected(*std::move(first_error));
  return Err(ErrorCode::kNotFound, "no depot was named");
}

Result<net::DownloadOutcome> RemoteDepots::Download(const RemotePackage& package,
                                                    const BlobRequest& blob,
                                                    const net::DownloadProgressFn& progress,
                                                    const std::stop_token& stop) const {
  net::DownloadRequest request{.sources = {},
                               .destination = blob.destination,
                               .part = blob.part,
                               .size_bytes = blob.size_bytes,
                               .digest_hex = blob.sha256,
                               .make_digest = [] { return std::make_unique<Sha256Digest>(); },
                               .chunks = blob.chunks,
                               .max_bytes_per_second = blob.max_bytes_per_second,
                               .transfer = options_.transfer,
                               .retry = options_.retry};
  for (const RemotePackage::Place& place : package.places) {
    request.sources.push_back({.url = place.blobs + blob.sha256, .bearer_token = place.key});
  }
  return net::Download(request, surroundings_, progress, stop);
}

}  // namespace tandem::fleet
