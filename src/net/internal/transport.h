// Bytes over a connected non-blocking socket, plain or through TLS. Readiness is the caller's job:
// it waits for what a call says that it wants, and calls again. Private to net/; OpenSSL stays
// inside.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::net::internal {

enum class IoState {
  kOk,
  kWantRead,   // call again when the socket is readable
  kWantWrite,  // call again when it is writable
  kEnd,        // the peer has closed its side properly
  kFailed,     // error()
};

// Does not own the socket, and must be destroyed before it is closed. Thread: one.
class Transport {
 public:
  virtual ~Transport() = default;
  // TLS: to be called until kOk, before anything else.
  virtual IoState Handshake() = 0;
  virtual IoState Read(std::span<char> into, size_t* n_read) = 0;
  // After a Read that gave fewer bytes than there was room for: whether another may give more
  // without the socket becoming readable again.
  virtual bool HoldsMore() const = 0;
  // May write less than all of `bytes`.
  virtual IoState Write(std::string_view bytes, size_t* n_written) = 0;
  const Error& error() const { return error_; }

 protected:
  Error error_;
};

std::unique_ptr<Transport> MakePlainTransport(int fd);

// What TLS connections share: trusted certificates and settings. Thread: any, once made.
class TlsContext {
 public:
  // ca_file: PEM; empty for the system's certificates.
  // Errors: kNotFound or kCorrupt for ca_file, kInternal.
  static Result<std::shared_ptr<TlsContext>> Create(const std::string& ca_file);
  ~TlsContext();

  // A client's side: the peer must prove to be `host` (a name, also sent as SNI, or an address).
  Result<std::unique_ptr<Transport>> MakeTransport(int fd, const std::string& host) const;

 private:
  TlsContext() = default;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::net::internal
