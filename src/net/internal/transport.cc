#include "net/internal/transport.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <cerrno>
#include <filesystem>
#include <limits>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace tandem::net::internal {
namespace {

Error SystemError(int number) {
  return Error{
      ErrorCode::kUnavailable,
      number == ECONNRESET || number == EPIPE
          ? std::string("the peer reset the connection")
          : std::string("the connection failed: ") + std::generic_category().message(number),
      {}};
}

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(int fd) : fd_(fd) {}

  IoState Handshake() override { return IoState::kOk; }

  IoState Read(std::span<char> into, size_t* n_read) override {
    const ssize_t n = ::recv(fd_, into.data(), into.size(), MSG_DONTWAIT);
    if (n > 0) {
      *n_read = static_cast<size_t>(n);
      return IoState::kOk;
    }
    if (n == 0) return IoState::kEnd;
    if (errno == EAGAIN || errno == EINTR) return IoState::kWantRead;
    error_ = SystemError(errno);
    return IoState::kFailed;
  }

  bool HoldsMore() const override { return false; }

  IoState Write(std::string_view bytes, size_t* n_written) override {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      *n_written = static_cast<size_t>(n);
      return IoState::kOk;
    }
    if (errno == EAGAIN || errno == EINTR) return IoState::kWantWrite;
    error_ = SystemError(errno);
    return IoState::kFailed;
  }

 private:
  const int fd_;
};

// ---- A BIO over a socket that raises no SIGPIPE, as OpenSSL's own would
// --------------------------

int BioRead(BIO* bio, char* into, int size) {
  BIO_clear_retry_flags(bio);
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t n = ::recv(fd, into, static_cast<size_t>(size), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  if (n == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(n);
}

int BioWrite(BIO* bio, const char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t n = ::send(fd, bytes, static_cast<size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}

long BioControl(BIO* bio, int command, long, void*) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;
    case BIO_CTRL_EOF:
      return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
    default:
      return 0;
  }
}

const BIO_METHOD* SocketMethod() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tandem socket");
    BIO_meth_set_read(made, BioRead);
    BIO_meth_set_write(made, BioWrite);
    BIO_meth_set_ctrl(made, BioControl);
    return made;
  }();
  return method;
}

std::string OpenSslReason() {
  const unsigned long code = ERR_peek_error();
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "unknown TLS error";
}

class TlsTransport final : public Transport {
 public:
  TlsTransport(SSL* ssl, std::string host) : ssl_(ssl), host_(std::move(host)) {}
  ~TlsTransport() override {
    // Says goodbye if that is possible at once; nobody waits for an answer.
    ERR_clear_error();
    if (SSL_is_init_finished(ssl_) == 1 && !failed_) SSL_shutdown(ssl_);
    ERR_clear_error();
    SSL_free(ssl_);
  }

  IoState Handshake() override {
    ERR_clear_error();
    return StateOf(SSL_connect(ssl_));
  }

  IoState Read(std::span<char> into, size_t* n_read) override {
    ERR_clear_error();
    return StateOf(SSL_read_ex(ssl_, into.data(), into.size(), n_read));
  }

  // A record gives at most its own bytes, and the next one may be here in part.
  bool HoldsMore() const override { return true; }

  IoState Write(std::string_view bytes, size_t* n_written) override {
    ERR_clear_error();
    return StateOf(SSL_write_ex(ssl_, bytes.data(), bytes.size(), n_written));
  }

 private:
  IoState StateOf(int rc) {
    const int system_error = errno;
    if (rc == 1) return IoState::kOk;
    switch (SSL_get_error(ssl_, rc)) {
      case SSL_ERROR_WANT_READ:
        return IoState::kWantRead;
      case SSL_ERROR_WANT_WRITE:
        return IoState::kWantWrite;
      case SSL_ERROR_ZERO_RETURN:
        return IoState::kEnd;
      case SSL_ERROR_SYSCALL:
        error_ = SystemError(system_error);
        break;
      default:
        if (const long verdict = SSL_get_verify_result(ssl_); verdict != X509_V_OK) {
          error_ = Error{ErrorCode::kFailedPrecondition,
                         fmt::format("the certificate of {} is not to be trusted: {}", host_,
                                     X509_verify_cert_error_string(verdict)),
                         {}};
        } else {
          // Also the end of the socket without the end of TLS, which could be anybody's doing.
          error_ = Error{ErrorCode::kUnavailable,
                         fmt::format("the TLS connection to {} failed: {}", host_, OpenSslReason()),
                         {}};
        }
    }
    failed_ = true;
    return IoState::kFailed;
  }

  SSL* const ssl_;
  const std::string host_;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<Transport> MakePlainTransport(int fd) {
  return std::make_unique<PlainTransport>(fd);
}

struct TlsContext::Impl {
  SSL_CTX* ctx = nullptr;
  ~Impl() { SSL_CTX_free(ctx); }
};

TlsContext::~TlsContext() = default;

Result<std::shared_ptr<TlsContext>> TlsContext::Create(const std::string& ca_file) {
  ERR_clear_error();
  std::shared_ptr<TlsContext> context(new TlsContext());
  context->impl_ = std::make_unique<Impl>();
  SSL_CTX* const ctx = context->impl_->ctx = SSL_CTX_new(TLS_client_method());
  if (ctx == nullptr) return Err(ErrorCode::kInternal, "cannot set up TLS: {}", OpenSslReason());
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, nullptr);
  // Partial writes, from wherever the rest lies by then; records read in one go.
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(ctx, 1);
  if (ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(ctx) != 1) {
      return Err(ErrorCode::kInternal, "cannot load the system's certificates: {}",
                 OpenSslReason());
    }
    return context;
  }
  if (SSL_CTX_load_verify_file(ctx, ca_file.c_str()) != 1) {
    std::error_code ec;
    if (!std::filesystem::exists(ca_file, ec)) {
      return Err(ErrorCode::kNotFound, "the file of trusted certificates {} does not exist",
                 ca_file);
    }
    return Err(ErrorCode::kCorrupt, "{} holds no trusted certificates in PEM form: {}", ca_file,
               OpenSslReason());
  }
  return context;
}

Result<std::unique_ptr<Transport>> TlsContext::MakeTransport(int fd,
                                                             const std::string& host) const {
  ERR_clear_error();
  SSL* const ssl = SSL_new(impl_->ctx);
  BIO* const bio = BIO_new(SocketMethod());
  if (ssl == nullptr || bio == nullptr) {
    SSL_free(ssl);
    BIO_free(bio);
    return Err(ErrorCode::kResourceExhausted, "no memory for a TLS connection");
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  in6_addr address{};
  const bool is_address = ::inet_pton(AF_INET, host.c_str(), &address) == 1 ||
                          ::inet_pton(AF_INET6, host.c_str(), &address) == 1;
  bool ready = false;
  if (is_address) {
    ready = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
  } else {
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    ready =
        SSL_set1_host(ssl, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
  }
  static constexpr unsigned char kProtocols[] = "\x08http/1.1";
  ready = ready && SSL_set_alpn_protos(ssl, kProtocols, sizeof kProtocols - 1) == 0;
  auto transport = std::make_unique<TlsTransport>(ssl, host);
  if (!ready) return Err(ErrorCode::kInvalidArgument, "'{}' is no host for TLS", host);
  return transport;
}

}  // namespace tandem::net::internal
