// A small hub for tests: lists repositories, redirects files to a content server on another port
// (another origin), and answers as the real one does when something is missing or forbidden.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "crypto/digest.h"
#include "net/testing/fake_origin.h"

namespace tandem::fleet {

class FakeHub {
 public:
  using Request = net::FakeOrigin::Request;
  using Reply = net::FakeOrigin::Reply;
  // Changes a reply before it is sent. Runs on a server's thread.
  using Tweak = std::function<void(const Request&, Reply&)>;

  FakeHub()
      : content_server_([this](const Request& request) { return ServeBlob(request); }),
        hub_([this](const Request& request) { return ServeHub(request); }) {}

  void AddFile(const std::string& repo, const std::string& path, std::string content) {
    const std::lock_guard lock(mutex_);
    blobs_[crypto::Sha256Hex(content)] = content;
    repos_[repo][path] = std::move(content);
  }

  std::string endpoint() const { return hub_.url(); }
  std::vector<Request> hub_requests() const { return hub_.requests(); }
  std::vector<Request> content_requests() const { return content_server_.requests(); }

  static constexpr std::string_view kCommit = "0123456789012345678901234567890123456789";

  void TweakListing(Tweak tweak) { Set(listing_, std::move(tweak)); }
  void TweakResolve(Tweak tweak) { Set(resolve_, std::move(tweak)); }
  void TweakContent(Tweak tweak) { Set(content_, std::move(tweak)); }

 private:
  void Set(Tweak& target, Tweak tweak) {
    const std::lock_guard lock(mutex_);
    target = std::move(tweak);
  }
  // Tweaks run outside the lock: they may wait, or kill the client.
  void Apply(const Tweak& source, const Request& request, Reply& reply) const {
    Tweak tweak;
    {
      const std::lock_guard lock(mutex_);
      tweak = source;
    }
    if (tweak) tweak(request, reply);
  }

  Reply ServeHub(const Request& request) const {
    const bool is_listing = request.target.starts_with(kApi);
    Reply reply = is_listing ? ListRepo(request.target) : Resolve(request.target);
    Apply(is_listing ? listing_ : resolve_, request, reply);
    return reply;
  }

  Reply ListRepo(const std::string& target) const {
    const std::lock_guard lock(mutex_);
    const size_t end = target.find("/revision/");
    const auto repo = repos_.find(target.substr(kApi.size(), end - kApi.size()));
    return repo == repos_.end() ? Refuse(401, "RepoNotFound") : List(repo->second);
  }

  Reply Resolve(const std::string& target) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, files] : repos_) {
      const std::string prefix = fmt::format("/{}/resolve/{}/", name, kCommit);
      if (!target.starts_with(prefix)) continue;
      const auto file = files.find(target.substr(prefix.size()));
      if (file == files.end()) return Refuse(404, "EntryNotFound");
      const std::string sha256 = crypto::Sha256Hex(file->second);
      return net::FakeOrigin::Redirect(
          content_server_.url(fmt::format("/blob/{}?signature=s3cret", sha256)),
          {{"X-Repo-Commit", std::string(kCommit)},
           {"X-Linked-Etag", fmt::format("\"{}\"", sha256)},
           {"X-Linked-Size", std::to_string(file->second.size())}});
    }
    return Refuse(404, "RepoNotFound");
  }

  static Reply List(const std::map<std::string, std::string>& files) {
    std::string siblings;
    for (const auto& [path, content] : files) {
      siblings += fmt::format(R"({}{{"rfilename":"{}","size":{},"lfs":{{"sha256":"{}"}}}})",
                              siblings.empty() ? "" : ",", path, content.size(),
                              crypto::Sha256Hex(content));
    }
    return {.body = fmt::format(R"({{"sha":"{}","siblings":[{}]}})", kCommit, siblings)};
  }

  Reply ServeBlob(const Request& request) const {
    Reply reply = Blob(request);
    Apply(content_, request, reply);
    return reply;
  }

  Reply Blob(const Request& request) const {
    constexpr std::string_view kPrefix = "/blob/";
    const std::lock_guard lock(mutex_);
    const std::string sha256 = request.target.substr(kPrefix.size(), 64);
    const auto blob = blobs_.find(sha256);
    if (blob == blobs_.end()) return {.status = 404};
    return net::FakeOrigin::ServeContent(request, blob->second, fmt::format("\"{}\"", sha256));
  }

  static Reply Refuse(int status, const char* code) {
    return {.status = status, .headers = {{"X-Error-Code", code}}, .body = "{}"};
  }

  static constexpr std::string_view kApi = "/api/models/";

  mutable std::mutex mutex_;  // guards what follows, up to the servers
  std::map<std::string, std::map<std::string, std::string>> repos_;
  std::map<std::string, std::string> blobs_;
  Tweak listing_;
  Tweak resolve_;
  Tweak content_;
  net::FakeOrigin content_server_;
  net::FakeOrigin hub_;
};

}  // namespace tandem::fleet
