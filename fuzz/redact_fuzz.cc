// Any bytes as the text of a conversation: it is redacted without a crash, what leaves has no
// placeholder that was not made for it, the echo of what leaves is the text again wherever it is
// cut, redacting is stable, and JSON stays JSON.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "base/check.h"
#include "base/utf8.h"
#include "gateway/privacy/redactor.h"
#include "gateway/privacy/streaming_restorer.h"

namespace tandem::gateway::privacy {
namespace {

const Redactor& TheRedactor() {
  static const Redactor redactor(
      std::vector<std::string>{"Alice Smith", "al", "王小明", "Nguyễn Văn An", "สมชาย"});
  return redactor;
}

std::string Restore(const std::shared_ptr<const RedactionMap>& map, std::string_view text,
                    size_t step) {
  StreamingRestorer restorer(map);
  std::string restored;
  for (size_t at = 0; at < text.size(); at += step)
    restored += restorer.Push(text.substr(at, step));
  return restored + restorer.Finish();
}

bool IsJson(std::string_view text) {
  boost::json::error_code error;
  boost::json::parse_options options;
  options.max_depth = 100;
  const auto value = boost::json::parse(text, error, {}, options);
  return !error;
}

void CheckText(const std::string& text) {
  GenerateRequest request;
  request.request_id = "r";
  request.messages = {{.role = "user", .content = text},
                      {.role = "assistant", .tool_calls = {{"c", "f", text}}}};
  request.assistant_prefix = text;
  request.stop = {text};
  const auto redaction = TheRedactor().Redact(request);
  TANDEM_CHECK(redaction.has_value());
  const GenerateRequest& redacted = redaction->request.request();
  const std::string& sent = redacted.messages[0].content;
  TANDEM_CHECK(redacted.messages[1].tool_calls[0].arguments == sent);
  TANDEM_CHECK(utf8::IsValid(sent) || !utf8::IsValid(text));

  const SecretFinder placeholders({});
  for (const SecretSpan& span : placeholders.Find(sent)) {
    const std::string_view found = std::string_view(sent).substr(span.begin, span.end - span.begin);
    if (found.starts_with('[') && found.ends_with(']') && found.find('\\') == found.npos) {
      TANDEM_CHECK(redaction->map->SecretOf(found) != nullptr);
    }
  }
  const std::string whole = Restore(redaction->map, sent, sent.size() + 1);
  TANDEM_CHECK(Restore(redaction->map, sent, 1) == whole);
  TANDEM_CHECK(Restore(redaction->map, sent, 5) == whole);
  if (IsJson(text)) {
    TANDEM_CHECK(IsJson(sent));
    if (text.find_first_of("{[") != text.npos) TANDEM_CHECK(IsJson(whole));
  }
}

}  // namespace
}  // namespace tandem::gateway::privacy

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size, so that reading beyond it is seen.
  const std::vector<char> copy(data, data + size);
  tandem::gateway::privacy::CheckText(std::string(copy.data(), copy.size()));
  return 0;
}
