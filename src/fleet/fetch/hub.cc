#include "fleet/fetch/hub.h"

#include <charconv>
#include <map>
#include <system_error>
#include <utility>

#include <boost/json.hpp>

#include "crypto/digest.h"
#include "fleet/fetch/content_digest.h"
#include "fleet/fetch/gguf_choice.h"
#include "os/paths.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;
using net::TransferRequest;

// The largest listings (tens of thousands of files) stay below this.
constexpr size_t kMaxListingBytes = 32UL << 20;

std::unexpected<Error> ModelError(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message), "model"});
}

// A path's components, each percent-encoded; nothing for one that could climb out of the
// repository.
std::optional<std::string> EncodePath(std::string_view path) {
  std::string encoded;
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return std::nullopt;
    encoded += net::UrlEncode(part);
    if (slash == path.npos) return encoded;
    encoded += '/';
    path.remove_prefix(slash + 1);
  }
}

std::string_view WithoutQuotes(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.starts_with('"') && etag.ends_with('"')) {
    etag = etag.substr(1, etag.size() - 2);
  }
  return etag;
}

std::optional<uint64_t> ParseSize(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string StringOf(const json::value* value) {
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

}  // namespace

// What the hub says about a repository at one revision.
struct Hub::Listing {
  struct Blob {
    std::optional<uint64_t> size_bytes;
    std::string sha256;  // of files in large-file storage; empty for others
  };
  std::string commit;
  std::vector<std::string> paths;
  std::map<std::string, Blob> blobs;
};

HubOptions HubOptionsFromEnvironment() {
  HubOptions options;
  if (auto endpoint = os::GetEnv("HF_ENDPOINT")) options.endpoint = *std::move(endpoint);
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  auto token = os::GetEnv("HF_TOKEN");
  if (!token) token = os::GetEnv("HUGGING_FACE_HUB_TOKEN");
  if (token) options.token = *std::move(token);
  const std::string offline = os::GetEnv("HF_HUB_OFFLINE").value_or("");
  options.offline = offline == "1" || offline == "true" || offline == "TRUE" || offline == "ON" ||
                    offline == "YES";
  return options;
}

Result<net::TextReply> Hub::Call(const std::string& url, TransferRequest::Method method,
                                 const std::stop_token& stop) const {
  if (options_.offline) {
    return Err(ErrorCode::kFailedPrecondition,
               "HF_HUB_OFFLINE is set, so {} is not asked; unset it to download",
               options_.endpoint);
  }
  TransferRequest request = options_.transfer;
  request.url = url;
  request.method = method;
  request.bearer_token = options_.token;
  // A redirect that leaves the hub leads to the bytes; what they must be stands on the redirect.
  request.redirects = TransferRequest::Redirects::kSameOrigin;
  for (int failures = 1;; ++failures) {
    Result<net::TextReply> reply =
        net::FetchText(request, *surroundings_.clock, stop, kMaxListingBytes);
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
      return Wrap(reply.error(), fmt::format("gave up after {} attempts (HF_ENDPOINT can name a "
                                             "mirror)",
                                             failures));
    }
    if (retry_after && *retry_after > options_.retry.max_retry_after) {
      return Wrap(reply.error(), fmt::format("the hub asks to come back in {} seconds",
                                             retry_after->count() / 1000));
    }
    surroundings_.sleeper->SleepFor(
        net::RetryDelay(options_.retry, failures, retry_after, surroundings_.uniform()), stop);
    if (stop.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
  }
}

// The hub answers 401 both for what is private and for what does not exist, so that nobody can
// probe for names; X-Error-Code tells more.
std::unexpected<Error> Hub::Refusal(const net::ReplyHead& head, const HubSource& source) const {
  const std::string code(head.headers.Find("x-error-code").value_or(""));
  const std::string page = fmt::format("{}/{}", options_.endpoint, source.repo);
  const bool has_token = !options_.token.empty();
  if (code == "GatedRepo") {
    return ModelError(ErrorCode::kPermissionDenied,
                      fmt::format("{} is gated: accept its licence at {}, then set HF_TOKEN to an "
                                  "access token of that account",
                                  source.repo, page));
  }
  if (code == "RevisionNotFound") {
    return ModelError(ErrorCode::kNotFound,
                      fmt::format("{} has no revision '{}'", source.repo, source.revision));
  }
  if (code == "EntryNotFound") {
    return ModelError(ErrorCode::kNotFound, fmt::format("{} has no such file: {}", source.repo,
                                                        net::UrlForMessages(head.url)));
  }
  if (head.status == 404 || (head.status == 401 && code == "RepoNotFound" && has_token)) {
    return ModelError(
        ErrorCode::kNotFound,
        fmt::format("there is no repository {} (or it is private and {}); check the "
                    "name at {}",
                    source.repo, has_token ? "HF_TOKEN may not read it" : "HF_TOKEN is not set",
                    page));
  }
  if (head.status == 401 && code == "RepoNotFound") {
    return ModelError(ErrorCode::kNotFound,
                      fmt::format("there is no public repository {}; check the name at {}, or set "
                                  "HF_TOKEN if it is private",
                                  source.repo, page));
  }
  if (head.status == 401) {
    return ModelError(
        ErrorCode::kUnauthenticated,
        has_token ? fmt::format("{} does not accept the token in HF_TOKEN", options_.endpoint)
                  : fmt::format("{} needs a login: set HF_TOKEN to an access token", page));
  }
  if (head.status == 403) {
    return ModelError(
        ErrorCode::kPermissionDenied,
        fmt::format("access to {} is denied: accept its licence at {} and set HF_TOKEN "
                    "to an access token that may read it",
                    source.repo, page));
  }
  return net::StatusError(head);
}

Result<Hub::Listing> Hub::List(const HubSource& source, const std::stop_token& stop) const {
  const std::string url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", options_.endpoint,
                                      source.repo, net::UrlEncode(source.revision));
  TANDEM_ASSIGN_OR_RETURN(const net::TextReply reply,
                          Call(url, TransferRequest::Method::kGet, stop));
  if (reply.head.status != 200) return Refusal(reply.head, source);
  boost::system::error_code error;
  const json::value value = json::parse(reply.body, error);
  const json::object* object = error ? nullptr : value.if_object();
  const json::value* siblings = object != nullptr ? object->if_contains("siblings") : nullptr;
  if (siblings == nullptr || !siblings->is_array()) {
    return Err(ErrorCode::kCorrupt, "{} did not answer with a list of files; is HF_ENDPOINT right?",
               net::UrlForMessages(url));
  }
  Listing listing{.commit = StringOf(object->if_contains("sha")), .paths = {}, .blobs = {}};
  for (const json::value& sibling : siblings->get_array()) {
    const json::object* file = sibling.if_object();
    if (file == nullptr) continue;
    const std::string path = StringOf(file->if_contains("rfilename"));
    if (path.empty()) continue;
    Listing::Blob& blob = listing.blobs[path];
    if (const json::value* size = file->if_contains("size")) {
      boost::system::error_code not_a_size;
      if (const auto number = size->to_number<uint64_t>(not_a_size); !not_a_size) {
        blob.size_bytes = number;
      }
    }
    if (const json::value* lfs = file->if_contains("lfs"); lfs != nullptr && lfs->is_object()) {
      blob.sha256 = StringOf(lfs->get_object().if_contains("sha256"));
    }
    listing.paths.push_back(path);
  }
  return listing;
}

Result<HubFile> Hub::Describe(const HubSource& source, const Listing& listing,
                              const std::string& path, const std::stop_token& stop) const {
  const std::optional<std::string> encoded = EncodePath(path);
  const std::string name = path.substr(path.rfind('/') + 1);
  if (!encoded || !IsSafeFileName(name)) {
    return Err(ErrorCode::kUnsupported, "{} has a file with a name that is not safe here: '{}'",
               source.repo, path);
  }
  const std::string revision = listing.commit.empty() ? source.revision : listing.commit;
  HubFile file{.path = path,
               .name = name,
               .url = fmt::format("{}/{}/resolve/{}/{}", options_.endpoint, source.repo,
                                  net::UrlEncode(revision), *encoded),
               .size_bytes = 0,
               .sha256 = {}};
  TANDEM_ASSIGN_OR_RETURN(const net::TextReply reply,
                          Call(file.url, TransferRequest::Method::kHead, stop));
  const net::Headers& headers = reply.head.headers;
  const bool is_redirect = reply.head.status >= 300 && reply.head.status < 400;
  if (reply.head.status != 200 && !is_redirect) return Refusal(reply.head, source);

  const Listing::Blob& listed = listing.blobs.at(path);
  auto etag = headers.Find("x-linked-etag");
  if (!etag && !is_redirect) etag = headers.Find("etag");
  const std::string digest(WithoutQuotes(etag.value_or("")));
  file.sha256 = IsSha256Hex(digest) ? digest : listed.sha256;
  if (!IsSha256Hex(file.sha256)) {
    return Err(
        ErrorCode::kFailedPrecondition,
        "the hub publishes no SHA-256 for {}, so the download could not be verified; fetch it "
        "by hand and run it by its path",
        path);
  }
  if (!listed.sha256.empty() && listed.sha256 != file.sha256) {
    return Err(ErrorCode::kCorrupt, "the hub's listing and its headers disagree about {}", path);
  }
  auto size = headers.Find("x-linked-size");
  if (!size && !is_redirect) size = headers.Find("content-length");
  const std::optional<uint64_t> size_bytes = size ? ParseSize(*size) : listed.size_bytes;
  if (!size_bytes) {
    return Err(ErrorCode::kFailedPrecondition, "the hub does not say how long {} is", path);
  }
  file.size_bytes = *size_bytes;
  return file;
}

Result<HubModel> Hub::Select(const HubSource& source, const std::stop_token& stop) const {
  TANDEM_ASSIGN_OR_RETURN(const Listing listing, List(source, stop));
  Result<GgufChoice> choice = ChooseGguf(listing.paths, source.quant);
  if (!choice) return Wrap(choice.error(), source.repo);
  HubModel model{
      .repo = source.repo, .quant = choice->quant, .revision = listing.commit, .files = {}};
  for (const std::string& path : choice->paths) {
    TANDEM_ASSIGN_OR_RETURN(HubFile file, Describe(source, listing, path, stop));
    model.files.push_back(std::move(file));
  }
  const bool digest_differs = !source.sha256.empty() && model.files.front().sha256 != source.sha256;
  const bool size_differs =
      source.size_bytes && model.files.front().size_bytes != *source.size_bytes;
  if (digest_differs || size_differs) {
    return ModelError(
        ErrorCode::kFailedPrecondition,
        fmt::format(
            "{} now holds another {} than the one this version of Tandem knows (sha256 {}); "
            "to take it as it is: tandem pull {}",
            source.repo, model.files.front().path, source.sha256,
            fmt::format("hf.co/{}:{}", source.repo, source.quant)));
  }
  return model;
}

Result<net::DownloadOutcome> Hub::Download(const HubFile& file,
                                           const std::filesystem::path& destination,
                                           const std::filesystem::path& part, const Limits& limits,
                                           const net::DownloadProgressFn& progress,
                                           const std::stop_token& stop) const {
  return net::Download({.sources = {{.url = file.url, .bearer_token = options_.token}},
                        .destination = destination,
                        .part = part,
                        .size_bytes = file.size_bytes,
                        .digest_hex = file.sha256,
                        .make_digest = [] { return std::make_unique<Sha256Digest>(); },
                        .chunks = limits.chunks,
                        .max_bytes_per_second = limits.max_bytes_per_second,
                        .transfer = options_.transfer,
                        .retry = options_.retry},
                       surroundings_, progress, stop);
}

}  // namespace tandem::fleet
