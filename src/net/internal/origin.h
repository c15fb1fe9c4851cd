// Where a URL leads: its parts, and the proxy that the environment names for it. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::net::internal {

struct Url {
  bool tls = false;
  std::string host;  // without the brackets of an IPv6 address, lower case
  uint16_t port = 0;
  std::string target;  // path and query, at least "/"

  // As in a Host header or a CONNECT: "example.com", "[::1]:8080". always_port: also the default
  // one.
  std::string Authority(bool always_port = false) const;
};

// Errors: kInvalidArgument; the message names no more than scheme, host and port.
Result<Url> ParseUrl(std::string_view url);

struct Proxy {
  std::string host;
  uint16_t port = 0;
  std::string authorization;  // value of Proxy-Authorization; empty: none
};

using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// The proxy for `url`, by the conventions that curl follows: https_proxy, HTTPS_PROXY or http_proxy
// (upper case is not read for that one: a CGI request could set it), then all_proxy, ALL_PROXY;
// unless no_proxy or NO_PROXY lists the host: "*", names (and all below them), addresses, each
// maybe with a port. Errors: kUnsupported for a proxy of another scheme than http, kInvalidArgument
// for what is no URL.
Result<std::optional<Proxy>> ChooseProxy(const Url& url, const Environment& environment);

}  // namespace tandem::net::internal
