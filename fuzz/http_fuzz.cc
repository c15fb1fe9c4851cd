// HTTP from strangers: requests, responses and server-sent events, in pieces that the input
// chooses. Whatever comes, cutting it differently must not change what is understood.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "net/internal/request_parser.h"
#include "net/internal/response_parser.h"
#include "net/sse.h"

namespace tandem::net {
namespace {

using internal::RequestParser;
using internal::ResponseParser;

// Calls for each prefix that a connection would feed: `step` bytes more each time.
template <typename Feed>
void InSteps(std::string_view bytes, size_t step, Feed feed) {
  std::string waiting;
  for (size_t at = 0; at < bytes.size(); at += step) {
    waiting += bytes.substr(at, step);
    size_t used = 0;
    if (!feed(waiting, &used)) return;
    waiting.erase(0, used);
  }
}

std::string Understood(std::string_view bytes, size_t step) {
  RequestParser parser({.max_header_bytes = 2048, .max_body_bytes = 2048});
  bool complete = false;
  InSteps(bytes, step, [&](std::string_view waiting, size_t* used) {
    const auto outcome = parser.Feed(waiting, used);
    complete = outcome == RequestParser::Outcome::kComplete;
    return outcome == RequestParser::Outcome::kNeedMore;
  });
  if (!complete) return "";
  HttpRequest request = parser.TakeRequest();
  std::string text = request.method + " " + request.path + "?" + request.query + "\n";
  for (const auto& [name, value] : request.headers) text += name + "=" + value + "\n";
  return text + request.body;
}

struct Collector final : ResponseParser::Sink {
  void OnParsedHead(ClientResponseHead) override {}
  void OnParsedBody(std::string_view bytes) override { n_bytes += bytes.size(); }
  size_t n_bytes = 0;
};

void ParseResponse(std::string_view bytes, size_t step) {
  Collector collector;
  ResponseParser parser(&collector, 2048, /*head_only=*/false);
  InSteps(bytes, step, [&](std::string_view waiting, size_t* used) {
    return parser.Feed(waiting, used) == ResponseParser::Outcome::kNeedMore;
  });
  (void)parser.may_keep_alive();
}

std::string Events(std::string_view bytes, size_t step) {
  std::string text;
  SseParser parser(
      [&](const SseEvent& event) {
        text += event.event + "|" + event.id + "|" + event.data + "\n";
      },
      /*max_event_bytes=*/1 << 20);
  for (size_t at = 0; at < bytes.size(); at += step) {
    TANDEM_CHECK(parser.Push(bytes.substr(at, step)).has_value());
  }
  return text;
}

}  // namespace
}  // namespace tandem::net

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::net;
  if (size < 1) return 0;
  const size_t step = 1 + data[0] % 64;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (bytes.size() < 1024)
    TANDEM_CHECK(Understood(bytes, step) == Understood(bytes, bytes.size() + 1));
  (void)Understood(bytes, step);
  ParseResponse(bytes, step);
  TANDEM_CHECK(Events(bytes, step) == Events(bytes, bytes.size() + 1));
  return 0;
}
