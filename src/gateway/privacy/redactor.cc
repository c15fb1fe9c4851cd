#include "gateway/privacy/redactor.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "gateway/privacy/ascii.h"
#include "gateway/privacy/json_leaves.h"

namespace tandem::gateway::privacy {
namespace {

// Of a member's name, as context for its value.
constexpr size_t kMaxKeyBytes = 48;
// A secret that stops after fewer bytes than this says nothing: words begin alike.
constexpr size_t kMinBegunBytes = 4;
// Known secrets outside this range are not looked for again: short ones would be found in words,
// and long ones (private keys) are found by their armour.
constexpr size_t kMinKnownBytes = 6;
constexpr size_t kMaxKnownBytes = 256;

// Secrets that only the words around them gave away, to be replaced where those words are missing.
class KnownSecrets {
 public:
  void Add(std::string_view secret, std::string_view placeholder) {
    if (secret.size() < kMinKnownBytes || secret.size() > kMaxKnownBytes) return;
    by_text_.emplace(secret, placeholder);
    starts_[static_cast<unsigned char>(secret.front())] = true;
    longest_ = std::max(longest_, secret.size());
  }
  bool empty() const { return by_text_.empty(); }

  // Nothing where there is none in `text`. Looks where a word begins only, so that the cost is the
  // number of words times the longest secret.
  std::optional<std::string> Replace(std::string_view text) const {
    std::optional<std::string> out;
    size_t copied = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      if (!starts_[static_cast<unsigned char>(text[i])]) continue;
      if (i > 0 && ascii::IsAlnum(text[i - 1]) && ascii::IsAlnum(text[i])) continue;
      const auto* known = At(text.substr(i));
      if (known == nullptr) continue;
      if (!out) out.emplace();
      out->append(text, copied, i - copied);
      *out += known->second;
      copied = i + known->first.size();
      i = copied - 1;
    }
    if (out) out->append(text, copied);
    return out;
  }

 private:
  // The longest one at the front of `text`: the one that sorts last among those not after it and is
  // its beginning; each step back drops what does not fit, so there are few.
  const std::pair<const std::string, std::string>* At(std::string_view text) const {
    std::string_view front = text.substr(0, longest_);
    while (!front.empty()) {
      auto next = by_text_.upper_bound(front);
      if (next == by_text_.begin()) return nullptr;
      --next;
      if (front.starts_with(next->first)) return &*next;
      const auto differ = std::ranges::mismatch(front, next->first).in1;
      front = front.substr(0, static_cast<size_t>(differ - front.begin()));
    }
    return nullptr;
  }

  std::map<std::string, std::string, std::less<>> by_text_;
  std::array<bool, 256> starts_{};
  size_t longest_ = 0;
};

// One request's way through the finder.
class Pass {
 public:
  Pass(const SecretFinder* finder, RedactionMap* map) : finder_(finder), map_(map) {}

  const KnownSecrets& known() const { return known_; }

  // `text` without its secrets, nothing where there are none. `key`: the member that it is of.
  std::optional<std::string> Replace(std::string_view text, std::string_view key = {}) {
    if (key.empty()) return ReplaceBehind(text, 0);
    key = key.substr(key.size() - std::min(key.size(), kMaxKeyBytes));
    return ReplaceBehind(fmt::format("{}: {}", key, text), key.size() + 2);
  }

 private:
  // Of text[from..]; what is before is context.
  std::optional<std::string> ReplaceBehind(std::string_view text, size_t from) {
    const std::vector<SecretSpan> spans = finder_->Find(text);
    if (spans.empty() || spans.back().end <= from) return std::nullopt;
    std::string out;
    size_t copied = from;
    for (const SecretSpan& span : spans) {
      const size_t begin = std::max(span.begin, from);
      if (span.end <= begin) continue;
      const std::string_view secret = text.substr(begin, span.end - begin);
      const std::string& placeholder = map_->PlaceholderOf(span.kind, secret);
      if (span.by_context) known_.Add(secret, placeholder);
      out.append(text, copied, begin - copied);
      out += placeholder;
      copied = span.end;
    }
    out.append(text, copied);
    return out;
  }

  const SecretFinder* const finder_;
  RedactionMap* const map_;
  KnownSecrets known_;
};

bool MayBeJson(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != text.npos && (text[first] == '{' || text[first] == '[');
}

// Replaces in a text that may be JSON.
void ReplaceIn(std::string* text, const LeafRewriter& rewrite) {
  if (text->empty()) return;
  if (MayBeJson(*text)) {
    if (auto rewritten = RewriteJson(*text, rewrite)) {
      if (*rewritten) *text = **std::move(rewritten);
      return;
    }
  }
  if (auto rewritten = rewrite(*text, {}); rewritten && *rewritten) *text = **std::move(rewritten);
}

// Calls `rewrite` for every text that a provider is sent. Errors: kInvalidArgument for tools that
// are no JSON; kPermissionDenied where the name of a tool's function has a secret in it.
Status ReplaceInAll(GenerateRequest* request, const LeafRewriter& rewrite) {
  for (Message& message : request->messages) {
    ReplaceIn(&message.content, rewrite);
    ReplaceIn(&message.name, rewrite);
    ReplaceIn(&message.tool_call_id, rewrite);
    for (ToolCall& call : message.tool_calls) {
      ReplaceIn(&call.id, rewrite);
      ReplaceIn(&call.arguments, rewrite);
    }
  }
  if (!request->tools_json.empty()) {
    const LeafRewriter not_the_name =
        [&](std::string_view text, std::string_view key) -> Result<std::optional<std::string>> {
      TANDEM_ASSIGN_OR_RETURN(auto rewritten, rewrite(text, key));
      if (rewritten && key == "name") {
        return Err(ErrorCode::kPermissionDenied, "the name of a function in it holds a secret");
      }
      return rewritten;
    };
    TANDEM_ASSIGN_OR_RETURN(auto tools, RewriteJson(request->tools_json, not_the_name));
    if (tools) request->tools_json = *std::move(tools);
  }
  ReplaceIn(&request->assistant_prefix, rewrite);
  for (std::string& stop : request->stop) ReplaceIn(&stop, rewrite);
  return {};
}

Failure CannotReplace(const Error& error) {
  const std::string_view what = error.code == ErrorCode::kPermissionDenied
                                    ? std::string_view(error.message)
                                    : "its tools are no JSON that can be looked into";
  return {
      FailureCode::kPrivacyRefused,
      fmt::format("privacy 'redacted' does not let this request leave the device: {}; change it, "
                  "or name a model that is installed here",
                  what)};
}

}  // namespace

std::expected<Redaction, Failure> Redactor::Redact(GenerateRequest request) const {
  auto map = std::make_shared<RedactionMap>();
  Pass pass(&finder_, map.get());
  const LeafRewriter find = [&](std::string_view text, std::string_view key) {
    return Result<std::optional<std::string>>(pass.Replace(text, key));
  };

  // The beginning of the answer comes last, when the conversation's secrets are known.
  std::string prefix = std::exchange(request.assistant_prefix, {});
  if (const Status status = ReplaceInAll(&request, find); !status) {
    return std::unexpected(CannotReplace(status.error()));
  }
  const std::string withheld(map->BegunSecret(prefix, kMinBegunBytes));
  prefix.resize(prefix.size() - withheld.size());
  request.assistant_prefix = std::move(prefix);
  ReplaceIn(&request.assistant_prefix, find);

  for (const Message& message : request.messages) {
    for (const ToolCall& call : message.tool_calls) {
      if (pass.Replace(call.name)) {
        return std::unexpected(CannotReplace(
            {ErrorCode::kPermissionDenied, "the name of a function in it holds a secret"}));
      }
    }
  }
  if (!pass.known().empty()) {
    const LeafRewriter again = [&](std::string_view text, std::string_view) {
      return Result<std::optional<std::string>>(pass.known().Replace(text));
    };
    if (const Status status = ReplaceInAll(&request, again); !status) {
      return std::unexpected(CannotReplace(status.error()));
    }
  }
  request.top_logprobs.reset();
  return Redaction{RedactedRequest(std::move(request)), std::move(map), withheld};
}

std::string Redactor::RedactText(std::string_view text, RedactionMap* map) const {
  std::string out(text);
  Pass pass(&finder_, map);
  ReplaceIn(&out, [&](std::string_view leaf, std::string_view key) {
    return Result<std::optional<std::string>>(pass.Replace(leaf, key));
  });
  return out;
}

}  // namespace tandem::gateway::privacy
