#include "net/internal/origin.h"

#include <algorithm>
#include <cctype>

#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>

#include "net/http_message.h"

namespace tandem::net::internal {
namespace {

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string Base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (j < n ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out.push_back(j <= n ? kDigits[group >> (18 - 6 * j) & 63] : '=');
    }
  }
  return out;
}

std::optional<std::string> FirstSet(const Environment& environment,
                                    std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (auto value = environment(name); value && !value->empty()) return value;
  }
  return std::nullopt;
}

bool IsExempt(const Url& url, std::string_view list) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    std::string entry = Lower(Trim(list.substr(0, comma)));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (entry == "*") return true;
    // A port, unless the colons are an IPv6 address's own.
    if (const size_t bracket = entry.rfind(']'), colon = entry.rfind(':');
        colon != entry.npos &&
        (bracket != entry.npos ? colon > bracket : entry.find(':') == colon)) {
      if (entry.substr(colon + 1) != std::to_string(url.port)) continue;
      entry.resize(colon);
    }
    if (entry.starts_with('[') && entry.ends_with(']')) entry = entry.substr(1, entry.size() - 2);
    if (entry.starts_with('.')) entry.erase(0, 1);
    if (entry.empty()) continue;
    if (url.host == entry) return true;
    if (url.host.size() > entry.size() && url.host.ends_with(entry) &&
        url.host[url.host.size() - entry.size() - 1] == '.') {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string Url::Authority(bool always_port) const {
  std::string out = host.find(':') == host.npos ? host : "[" + host + "]";
  if (always_port || port != (tls ? 443 : 80)) out += ":" + std::to_string(port);
  return out;
}

Result<Url> ParseUrl(std::string_view text) {
  const auto parsed = boost::urls::parse_uri({text.data(), text.size()});
  if (!parsed) return Err(ErrorCode::kInvalidArgument, "not a URL");
  const boost::urls::url_view view = *parsed;
  Url url;
  const boost::urls::scheme scheme = view.scheme_id();
  if (scheme != boost::urls::scheme::http && scheme != boost::urls::scheme::https) {
    return Err(ErrorCode::kInvalidArgument, "the URL's scheme is neither http nor https");
  }
  url.tls = scheme == boost::urls::scheme::https;
  url.host = Lower(std::string(view.host_address()));
  if (url.host.empty()) return Err(ErrorCode::kInvalidArgument, "the URL names no host");
  if (view.has_userinfo()) {
    return Err(ErrorCode::kInvalidArgument,
               "the URL for {} carries a user name or password; send a header instead", url.host);
  }
  url.port = url.tls ? 443 : 80;
  if (view.has_port() && !view.port().empty()) {
    url.port = view.port_number();
    if (url.port == 0) {
      return Err(ErrorCode::kInvalidArgument, "the URL for {} has no valid port", url.host);
    }
  }
  const auto path = view.encoded_path();
  url.target.assign(path.data(), path.size());
  if (!url.target.starts_with('/')) url.target.insert(0, 1, '/');
  if (view.has_query()) {
    const auto query = view.encoded_query();
    url.target.append("?").append(query.data(), query.size());
  }
  return url;
}

Result<std::optional<Proxy>> ChooseProxy(const Url& url, const Environment& environment) {
  const auto setting =
      url.tls ? FirstSet(environment, {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"})
              : FirstSet(environment, {"http_proxy", "all_proxy", "ALL_PROXY"});
  if (!setting) return std::nullopt;
  if (const auto exempt = FirstSet(environment, {"no_proxy", "NO_PROXY"});
      exempt && IsExempt(url, *exempt)) {
    return std::nullopt;
  }
  const std::string text = setting->find("://") == setting->npos ? "http://" + *setting : *setting;
  const auto parsed = boost::urls::parse_uri(text);
  if (!parsed || std::string(parsed->host_address()).empty()) {
    return Err(
        ErrorCode::kInvalidArgument,
        "the proxy that the environment names is not a URL; look at https_proxy and http_proxy");
  }
  if (parsed->scheme_id() != boost::urls::scheme::http) {
    return Err(ErrorCode::kUnsupported,
               "the environment names a proxy of scheme '{}'; only http proxies are spoken",
               std::string(parsed->scheme()));
  }
  Proxy proxy;
  proxy.host = parsed->host_address();
  // 1080 is curl's default for a proxy without a port.
  proxy.port = parsed->has_port() && parsed->port_number() != 0 ? parsed->port_number() : 1080;
  if (parsed->has_userinfo()) {
    proxy.authorization = "Basic " + Base64(parsed->user() + ":" + parsed->password());
  }
  return proxy;
}

}  // namespace tandem::net::internal
