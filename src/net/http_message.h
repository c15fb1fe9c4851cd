// Charter of net/: bytes over sockets (HTTP server, HTTP client, server-sent events, downloads). It
// may include base and os; Boost.Asio, Boost.Beast and OpenSSL stay inside its .cc files. It knows
// nothing of language models: what a request means and how an error looks are its callers'
// business.
//
// This header: what an HTTP message is made of, shared by the server and the client.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::net {

// ASCII only, as HTTP's names are.
bool EqualsIgnoreCase(std::string_view a, std::string_view b);

// Header fields in the order in which they came; names compare without case.
class Headers {
 public:
  struct Field {
    std::string name;
    std::string value;
  };

  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  // The first field of that name; nothing where there is none. The view lives as long as the field.
  std::optional<std::string_view> Find(std::string_view name) const;
  // How many fields have that name.
  size_t Count(std::string_view name) const;

  void Add(std::string_view name, std::string_view value) {
    fields_.push_back({std::string(name), std::string(value)});
  }
  // Replaces every field of that name by one.
  void Set(std::string_view name, std::string_view value);
  void Remove(std::string_view name);

  bool empty() const { return fields_.empty(); }
  size_t size() const { return fields_.size(); }
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }

 private:
  std::vector<Field> fields_;
};

// Takes the body of one request as it comes, for bodies that are too large to keep in memory
// (HttpServerOptions::open_body). Destroyed without the handler having seen the request: the client
// left, or the rest of the body was no HTTP.
class BodySink {
 public:
  virtual ~BodySink() = default;
  // The next bytes. False: that is enough for now, and reading goes on when `resume` is called; a
  // call or two may still come. Thread: the connection's; must not block.
  virtual bool Take(std::string_view bytes) = 0;
};

struct HttpRequest {
  std::string method;  // as sent, for example "POST"
  std::string target;  // as sent, for example "/v1/models/a%2Fb?limit=3"
  std::string path;    // target up to the '?', still percent-encoded
  std::string query;   // target after the '?', still percent-encoded; empty where there is none
  Headers headers;
  std::string body;                               // complete, with any chunked coding removed
  std::shared_ptr<BodySink> body_sink = nullptr;  // what took the body instead
  std::string remote_address;                     // "127.0.0.1:40312", "[::1]:40312"
};

// "a%20b" -> "a b". '+' stays '+'. Nothing for a bad or truncated escape.
std::optional<std::string> PercentDecode(std::string_view text);

// "a=1&b=x%20y" by name, decoded; '+' is a space. Of a name that comes twice the last counts; a
// pair with a bad escape is left out.
std::map<std::string, std::string, std::less<>> ParseQuery(std::string_view query);

// What "Authorization: Basic ..." carries (RFC 7617).
struct BasicCredentials {
  std::string user;
  std::string password;
};
// Nothing for another scheme, and for what is not base64 of "user:password".
std::optional<BasicCredentials> ParseBasicCredentials(std::string_view authorization);

// "OK" for 200, "" for a status without a registered phrase.
std::string_view ReasonPhrase(int status);

}  // namespace tandem::net
