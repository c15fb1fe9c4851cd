// A TCP server for tests: each connection runs a script, so that it can answer wrongly, half or
// never.
#pragma once

#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/testing/raw_peer.h"

namespace tandem::net::testing {

class RawServer {
 public:
  // `script` runs on a thread of its own for each connection, numbered from 0, and closes by
  // returning.
  using Script = std::function<void(RawPeer& peer, int number)>;

  explicit RawServer(Script script) : script_(std::move(script)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    ::listen(listener_, 64);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::jthread([this] { Accept(); });
  }
  ~RawServer() {
    ::shutdown(listener_, SHUT_RDWR);  // wakes accept
    acceptor_.join();
    {
      std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);  // wakes the scripts
    }
    connections_.clear();
    ::close(listener_);
  }

  uint16_t port() const { return port_; }
  std::string url(std::string_view path = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + std::string(path);
  }

 private:
  void Accept() {
    for (int number = 0;; ++number) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      connections_.emplace_back([this, fd, number] {
        // OpenSSL writes without MSG_NOSIGNAL; only here, so that a signal that our own code raises
        // is still seen.
        sigset_t pipe;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
        RawPeer peer(fd);
        peer.before_close = [this](int closing) {
          std::lock_guard lock(mutex_);
          open_.erase(closing);
        };
        {
          std::lock_guard lock(mutex_);
          open_.insert(fd);
        }
        script_(peer, number);
      });
    }
  }

  const Script script_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::set<int> open_;                     // sockets of scripts that run
  std::vector<std::jthread> connections_;  // the acceptor's, until it has ended
  std::jthread acceptor_;
};

// A certificate for localhost and 127.0.0.1 that vouches for itself, and TLS over a RawPeer with
// it.
class TestTls {
 public:
  TestTls() {
    key_ = EVP_EC_gen("P-256");
    certificate_ = X509_new();
    X509_set_version(certificate_, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate_), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate_), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate_), 3600);
    X509_NAME* name = X509_get_subject_name(certificate_);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("tandem test"), -1, -1, 0);
    X509_set_issuer_name(certificate_, name);
    X509_set_pubkey(certificate_, key_);
    for (const auto& [nid, value] :
         {std::pair(NID_basic_constraints, "critical,CA:TRUE"),
          std::pair(NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1")}) {
      X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
      X509_add_ext(certificate_, extension, -1);
      X509_EXTENSION_free(extension);
    }
    X509_sign(certificate_, key_, EVP_sha256());
    ctx_ = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(ctx_, certificate_);
    SSL_CTX_use_PrivateKey(ctx_, key_);
  }
  ~TestTls() {
    SSL_CTX_free(ctx_);
    X509_free(certificate_);
    EVP_PKEY_free(key_);
  }
  TestTls(const TestTls&) = delete;
  TestTls& operator=(const TestTls&) = delete;

  bool WriteCertificate(const std::string& path) const {
    FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) return false;
    const bool written = PEM_write_X509(file, certificate_) == 1;
    return std::fclose(file) == 0 && written;
  }

  // One TLS connection, server side; null if the handshake failed.
  class Session {
   public:
    explicit Session(SSL* ssl) : ssl_(ssl) {}
    ~Session() { SSL_free(ssl_); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // Up to and including `marker`; what came when the peer closed first.
    std::string ReadUntil(std::string_view marker) {
      std::string read;
      char byte = 0;
      while (!read.ends_with(marker) && SSL_read(ssl_, &byte, 1) == 1) read.push_back(byte);
      return read;
    }
    void Send(std::string_view bytes) {
      SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
    }
    void Shutdown() { SSL_shutdown(ssl_); }
    std::string server_name() const {
      const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
      return name != nullptr ? name : "";
    }

   private:
    SSL* const ssl_;
  };

  std::unique_ptr<Session> Accept(RawPeer& peer) const {
    SSL* ssl = SSL_new(ctx_);
    SSL_set_fd(ssl, peer.fd());
    auto session = std::make_unique<Session>(ssl);
    return SSL_accept(ssl) == 1 ? std::move(session) : nullptr;
  }

 private:
  EVP_PKEY* key_ = nullptr;
  X509* certificate_ = nullptr;
  SSL_CTX* ctx_ = nullptr;
};

}  // namespace tandem::net::testing
