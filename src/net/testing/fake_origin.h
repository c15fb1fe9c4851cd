// An honest HTTP/1.1 server for tests of clients, over raw sockets so that it can also misbehave:
// cut a body, stall, leave out the length, answer with the wrong range. Listens on 127.0.0.1, port
// 0; each connection carries one request.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/check.h"
#include "net/http_message.h"

namespace tandem::net {

class FakeOrigin {
 public:
  struct Request {
    std::string method;
    std::string target;
    Headers headers;
  };

  struct Reply {
    int status = 200;
    Headers headers = {};
    std::string body = {};
    bool chunked = false;                 // no Content-Length, chunked coding
    bool announce_length = true;          // else the end of the connection ends the body
    std::optional<size_t> cut_at = {};    // the connection breaks after this many body bytes
    std::optional<size_t> pause_at = {};  // on_pause runs after this many body bytes
    std::function<void()> on_pause = {};
    bool hang = false;  // after that, nothing more until the client goes away
  };
  using Handler = std::function<Reply(const Request&)>;

  explicit FakeOrigin(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TANDEM_CHECK(listener_ >= 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    TANDEM_CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    TANDEM_CHECK(::listen(listener_, 16) == 0);
    TANDEM_CHECK(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { AcceptConnections(); });
  }

  ~FakeOrigin() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& thread : connections_) thread.join();
    ::close(listener_);
  }
  FakeOrigin(const FakeOrigin&) = delete;
  FakeOrigin& operator=(const FakeOrigin&) = delete;

  int port() const { return port_; }
  std::string url(std::string_view target = "") const {
    return fmt::format("http://127.0.0.1:{}{}", port_, target);
  }

  // Every request so far, in order of arrival.
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

  // A reply that honours Range and If-Range as a content server does.
  static Reply ServeContent(const Request& request, const std::string& content,
                            const std::string& etag = "") {
    Reply reply{.body = content};
    if (!etag.empty()) reply.headers.Add("ETag", etag);
    const auto range = request.headers.Find("range");
    const auto if_range = request.headers.Find("if-range");
    if (!range || !range->starts_with("bytes=") || (if_range && *if_range != etag)) return reply;
    const size_t first = std::stoull(std::string(range->substr(6)));
    const std::string_view end = range->substr(range->find('-') + 1);
    const size_t last = end.empty()
                            ? content.size() - 1
                            : std::min<size_t>(std::stoull(std::string(end)), content.size() - 1);
    if (first >= content.size()) {
      reply.status = 416;
      reply.body.clear();
      reply.headers.Add("Content-Range", fmt::format("bytes */{}", content.size()));
      return reply;
    }
    reply.status = 206;
    reply.headers.Add("Content-Range", fmt::format("bytes {}-{}/{}", first, last, content.size()));
    reply.body = content.substr(first, last + 1 - first);
    return reply;
  }

  static Reply Redirect(const std::string& location, Headers headers = {}) {
    headers.Add("Location", location);
    return {.status = 302, .headers = std::move(headers), .body = "moved"};
  }

 private:
  void AcceptConnections() {
    while (true) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const std::lock_guard lock(mutex_);
      if (fd < 0 || stopping_) {
        if (fd >= 0) ::close(fd);
        return;
      }
      open_.insert(fd);
      connections_.emplace_back([this, fd] {
        Serve(fd);
        const std::lock_guard closing(mutex_);
        open_.erase(fd);
        ::close(fd);
      });
    }
  }

  void Serve(int fd) {
    std::string text;
    char buffer[4096];
    while (text.find("\r\n\r\n") == text.npos) {
      const ssize_t count = ::recv(fd, buffer, sizeof buffer, 0);
      if (count <= 0) return;
      text.append(buffer, static_cast<size_t>(count));
    }
    const Request request = Parse(text);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    Answer(fd, request, handler_(request));
  }

  static Request Parse(std::string_view text) {
    Request request;
    const std::string_view line = text.substr(0, text.find("\r\n"));
    const size_t first = line.find(' ');
    request.method = line.substr(0, first);
    request.target = line.substr(first + 1, line.rfind(' ') - first - 1);
    for (size_t at = line.size() + 2; text.substr(at, 2) != "\r\n";) {
      const size_t end = text.find("\r\n", at);
      const std::string_view field = text.substr(at, end - at);
      const size_t colon = field.find(':');
      request.headers.Add(field.substr(0, colon), field.substr(colon + 2));
      at = end + 2;
    }
    return request;
  }

  void Answer(int fd, const Request& request, const Reply& reply) {
    std::string head = fmt::format("HTTP/1.1 {} {}\r\nConnection: close\r\n", reply.status,
                                   ReasonPhrase(reply.status));
    for (const Headers::Field& field : reply.headers) {
      head += fmt::format("{}: {}\r\n", field.name, field.value);
    }
    if (reply.chunked) {
      head += "Transfer-Encoding: chunked\r\n";
    } else if (reply.announce_length && !reply.headers.Find("content-length")) {
      head += fmt::format("Content-Length: {}\r\n", reply.body.size());
    }
    if (!Send(fd, head + "\r\n") || request.method == "HEAD") return;
    const std::string_view body =
        std::string_view(reply.body).substr(0, reply.cut_at.value_or(reply.body.size()));
    const size_t pause_at = std::min(reply.pause_at.value_or(body.size()), body.size());
    if (!SendBody(fd, body.substr(0, pause_at), reply.chunked)) return;
    if (reply.on_pause) reply.on_pause();
    if (reply.hang) {
      char byte;
      while (::recv(fd, &byte, 1, 0) > 0) {
      }
      return;
    }
    if (!SendBody(fd, body.substr(pause_at), reply.chunked)) return;
    if (reply.cut_at) return;  // no last chunk, no missing bytes
    if (reply.chunked) Send(fd, "0\r\n\r\n");
  }

  static bool SendBody(int fd, std::string_view bytes, bool chunked) {
    if (bytes.empty()) return true;
    if (!chunked) return Send(fd, bytes);
    return Send(fd, fmt::format("{:x}\r\n", bytes.size())) && Send(fd, bytes) && Send(fd, "\r\n");
  }

  static bool Send(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::thread acceptor_;
  mutable std::mutex mutex_;  // guards what follows
  bool stopping_ = false;
  std::set<int> open_;
  std::vector<std::thread> connections_;
  std::vector<Request> requests_;
};

}  // namespace tandem::net
