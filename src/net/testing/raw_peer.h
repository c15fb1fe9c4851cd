// TCP peers for tests that say exactly the bytes they are told to, and can misbehave: half-close,
// reset, read slowly. Every wait has a deadline after which the test fails.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "net/http_message.h"

namespace tandem::net::testing {

struct RawResponse {
  int status = 0;
  std::string head;  // status line and fields, with the empty line
  Headers headers;
  std::string body;
  int n_chunks = 0;       // with content in them
  bool complete = false;  // ended as its framing says
};

// A connected socket of either side.
class RawPeer {
 public:
  explicit RawPeer(int fd) : fd_(fd) {
    timeval deadline{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);
    int one = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  ~RawPeer() { Close(); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  int fd() const { return fd_; }
  std::function<void(int fd)> before_close;

  // False: the peer is gone, or took nothing for the whole deadline.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n < 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

  void ShutdownWrite() { ::shutdown(fd_, SHUT_WR); }
  void Close() {
    if (fd_ < 0) return;
    if (before_close) before_close(fd_);
    ::close(std::exchange(fd_, -1));
  }
  void Reset() {
    linger hard{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    Close();
  }

  // Reads at least one byte more into buffered(); false at the end, on a reset or past the
  // deadline.
  bool ReadSome() {
    char bytes[16384];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) {
      was_reset_ = n < 0 && errno == ECONNRESET;
      ended_ = n == 0;
      return false;
    }
    buffered_.append(bytes, static_cast<size_t>(n));
    return true;
  }
  const std::string& buffered() const { return buffered_; }
  bool ended() const { return ended_; }
  bool was_reset() const { return was_reset_; }

  // True if ReadSome would not wait: bytes, the end or a reset are there.
  bool Readable() const {
    char byte = 0;
    return ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
  }

  // True if the server closes without sending anything more.
  bool ReadsEnd() { return buffered_.empty() && !ReadSome() && (ended_ || was_reset_); }

  // Reads until `marker` has come; false if it does not.
  bool ReadUntil(std::string_view marker) {
    while (buffered_.find(marker) == std::string::npos) {
      if (!ReadSome()) return false;
    }
    return true;
  }

  // One response, interim ones included. has_body: false for the answer to HEAD.
  RawResponse ReadResponse(bool has_body = true) {
    RawResponse response;
    if (!ReadUntil("\r\n\r\n")) return response;
    response.head = Take(buffered_.find("\r\n\r\n") + 4);
    response.status = std::atoi(response.head.c_str() + 9);
    for (size_t line = response.head.find("\r\n") + 2; line + 2 < response.head.size();) {
      const size_t end = response.head.find("\r\n", line);
      const size_t colon = response.head.find(": ", line);
      response.headers.Add(response.head.substr(line, colon - line),
                           response.head.substr(colon + 2, end - colon - 2));
      line = end + 2;
    }
    if (!has_body || response.status < 200 || response.status == 204) {
      response.complete = true;
    } else if (response.headers.Find("Transfer-Encoding") == "chunked") {
      ReadChunks(&response);
    } else if (const auto length = response.headers.Find("Content-Length")) {
      const size_t size = std::strtoull(std::string(*length).c_str(), nullptr, 10);
      while (buffered_.size() < size && ReadSome()) {
      }
      response.complete = buffered_.size() >= size;
      response.body = Take(std::min(size, buffered_.size()));
    } else {
      while (ReadSome()) {
      }
      response.complete = ended_;
      response.body = Take(buffered_.size());
    }
    return response;
  }

  // Takes the first n bytes of what was read.
  std::string Take(size_t n) {
    std::string taken = buffered_.substr(0, n);
    buffered_.erase(0, n);
    return taken;
  }

 private:
  void ReadChunks(RawResponse* response) {
    for (;;) {
      size_t eol = 0;
      while ((eol = buffered_.find("\r\n")) == std::string::npos) {
        if (!ReadSome()) return;
      }
      const size_t size = std::strtoull(buffered_.c_str(), nullptr, 16);
      const size_t whole = eol + 2 + size + 2;
      while (buffered_.size() < whole) {
        if (!ReadSome()) return;
      }
      const std::string chunk = Take(whole);
      if (size == 0) {
        response->complete = true;
        return;
      }
      response->body += chunk.substr(eol + 2, size);
      ++response->n_chunks;
    }
  }

  int fd_ = -1;
  bool ended_ = false;
  bool was_reset_ = false;
  std::string buffered_;
};

class RawClient : public RawPeer {
 public:
  // receive_buffer_bytes > 0: a small window, to make a slow reader felt.
  explicit RawClient(uint16_t port, int receive_buffer_bytes = 0, bool ipv6 = false)
      : RawPeer(::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer_bytes > 0) {
      ::setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    }
    int rc = 0;
    if (ipv6) {
      sockaddr_in6 address{};
      address.sin6_family = AF_INET6;
      address.sin6_port = htons(port);
      address.sin6_addr = in6addr_loopback;
      rc = ::connect(fd(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    } else {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      rc = ::connect(fd(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
    connected_ = rc == 0;
  }

  bool connected() const { return connected_; }

 private:
  bool connected_ = false;
};

}  // namespace tandem::net::testing
