// The address that `tandem serve` listens on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::app {

struct ListenAddress {
  std::string host;
  uint16_t port = 0;

  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};
// "HOST:PORT", "[::1]:7070", ":7070" (every address), "7070" (loopback). Errors: kInvalidArgument.
Result<ListenAddress> ParseListenAddress(std::string_view text);
// "127.0.0.1:7070", "[::1]:7070": for a URL.
std::string FormatAddress(const ListenAddress& address);
// Whether only programs on this machine can reach it: 127.0.0.0/8, ::1, localhost.
bool IsLoopback(std::string_view host);

}  // namespace tandem::app
