#include "gateway/upstream/chunk_scanner.h"

#include <cstddef>
#include <cstdint>
#include <functional>

#include <boost/json/basic_parser_impl.hpp>

#include "base/utf8.h"

namespace tandem::gateway::upstream {
namespace {

namespace json = boost::json;

constexpr size_t kMaxDepth = 32;

// What the parser calls. Returning false stops it: then the chunk is not a plain one.
class Handler {
 public:
  // Limits that the parser wants to know; the event's size is limited before.
  static constexpr size_t max_object_size = static_cast<size_t>(-1);
  static constexpr size_t max_array_size = static_cast<size_t>(-1);
  static constexpr size_t max_key_size = static_cast<size_t>(-1);
  static constexpr size_t max_string_size = static_cast<size_t>(-1);
  using Code = json::error_code;

  ChunkScanner::Plain plain() const { return {content_, thought_}; }
  // Where the content stood as it is in the text, without an escape; null: it did not.
  const char* content_at() const { return content_at_; }
  bool complete() const { return has_choices_; }
  void Reset() { *this = Handler(std::move(content_)); }
  Handler() = default;

  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }

  bool on_object_begin(Code&) {
    switch (where_) {
      case Where::kNowhere:
        return Enter(Where::kRoot);
      case Where::kChoices:
        return n_choices_++ == 0 && Enter(Where::kChoice);
      case Where::kChoice:
        if (key_ == Key::kDelta) {
          content_.clear();  // of a field named twice the last one counts
          content_at_ = nullptr;
          thought_ = false;
          return Enter(Where::kDelta);
        }
        return key_ == Key::kOther && Skip();
      default:
        return key_ == Key::kOther && Skip();
    }
  }
  bool on_object_end(size_t, Code&) { return Leave(); }
  bool on_array_begin(Code&) {
    if (where_ == Where::kRoot && key_ == Key::kChoices) {
      has_choices_ = true;
      return Enter(Where::kChoices);
    }
    return where_ != Where::kNowhere && where_ != Where::kChoices && key_ == Key::kOther && Skip();
  }
  bool on_array_end(size_t, Code&) { return Leave(); }

  // A key with an escape in it comes in parts; whoever writes those means harm or nothing.
  bool on_key_part(std::string_view, size_t, Code&) { return skipped_ > 0; }
  bool on_key(std::string_view name, size_t, Code&) {
    if (skipped_ == 0) key_ = KeyOf(name);
    return true;
  }

  bool on_string_part(std::string_view part, size_t n, Code&) { return OnText(part, n); }
  bool on_string(std::string_view part, size_t n, Code&) {
    // In one part it is a view of the text.
    const bool whole = n == part.size();
    if (skipped_ == 0 && key_ == Key::kContent) content_at_ = whole ? part.data() : nullptr;
    return OnText(part, n);
  }
  bool on_number_part(std::string_view, Code&) { return OnScalar(); }
  bool on_int64(int64_t, std::string_view, Code&) { return OnScalar(); }
  bool on_uint64(uint64_t, std::string_view, Code&) { return OnScalar(); }
  bool on_double(double, std::string_view, Code&) { return OnScalar(); }
  bool on_bool(bool, Code&) { return OnScalar(); }
  bool on_null(Code&) {
    if (skipped_ > 0) return true;
    if (key_ == Key::kContent) {
      content_.clear();
      content_at_ = nullptr;
    }
    return where_ != Where::kNowhere && where_ != Where::kChoices && key_ != Key::kChoices &&
           key_ != Key::kDelta;
  }
  bool on_comment_part(std::string_view, Code&) { return false; }
  bool on_comment(std::string_view, Code&) { return false; }

 private:
  enum class Where { kNowhere, kRoot, kChoices, kChoice, kDelta };
  enum class Key {
    kOther,  // any value, which is skipped
    kMustBeNull,
    kChoices,
    kDelta,
    kContent,
    kThought,
  };

  explicit Handler(std::string content) : content_(std::move(content)) { content_.clear(); }

  Key KeyOf(std::string_view name) const {
    switch (where_) {
      case Where::kRoot:
        if (name == "choices") return Key::kChoices;
        return name == "error" || name == "usage" ? Key::kMustBeNull : Key::kOther;
      case Where::kChoice:
        if (name == "delta") return Key::kDelta;
        return name == "finish_reason" || name == "logprobs" ? Key::kMustBeNull : Key::kOther;
      case Where::kDelta:
        if (name == "content") return Key::kContent;
        if (name == "reasoning_content" || name == "reasoning") return Key::kThought;
        return name == "tool_calls" ? Key::kMustBeNull : Key::kOther;
      default:
        return Key::kOther;
    }
  }
  bool Enter(Where where) {
    where_ = where;
    key_ = Key::kOther;
    return true;
  }
  bool Skip() {
    ++skipped_;
    return true;
  }
  bool Leave() {
    if (skipped_ > 0) {
      --skipped_;
      return true;
    }
    // From the delta to its choice, to the choices, to the root, to the end.
    where_ = static_cast<Where>(static_cast<int>(where_) - 1);
    key_ = Key::kOther;
    return true;
  }
  bool OnScalar() const {
    return skipped_ > 0 ||
           (where_ != Where::kNowhere && where_ != Where::kChoices && key_ == Key::kOther);
  }
  // `n`: bytes of the string so far, this part included.
  bool OnText(std::string_view part, size_t n) {
    if (skipped_ == 0 && key_ == Key::kContent) {
      if (n == part.size()) content_.clear();  // likewise
      content_.append(part);
      return true;
    }
    if (skipped_ == 0 && key_ == Key::kThought) {
      thought_ = thought_ || !part.empty();
      return true;
    }
    return OnScalar();
  }

  Where where_ = Where::kNowhere;
  Key key_ = Key::kOther;
  int skipped_ = 0;  // how deep inside a value that does not matter
  int n_choices_ = 0;
  bool has_choices_ = false;
  bool thought_ = false;
  const char* content_at_ = nullptr;
  std::string content_;
};

// Whether a JSON string may hold these bytes as they are.
bool IsPlainText(std::string_view text) {
  bool ascii = true;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || c == '"' || c == '\\') return false;
    ascii &= byte < 0x80;
  }
  return ascii || utf8::IsValid(text);
}

json::parse_options Options() {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  return options;
}

}  // namespace

struct ChunkScanner::Parser {
  json::basic_parser<Handler> parser{Options()};
  Plain plain;
  // What stood around the content of the last chunk that was parsed. The chunks of an answer differ
  // in nothing else: where these bytes are the same and what is between them is the inside of a
  // string, the text has the same structure, and only the content is another. Empty: none is known.
  std::string before;
  std::string behind;

  const Plain* MatchLast(std::string_view text);
  void Learn(std::string_view text);
};

const ChunkScanner::Plain* ChunkScanner::Parser::MatchLast(std::string_view text) {
  if (before.empty() || text.size() < before.size() + behind.size() || !text.starts_with(before) ||
      !text.ends_with(behind)) {
    return nullptr;
  }
  text.remove_prefix(before.size());
  text.remove_suffix(behind.size());
  if (!IsPlainText(text)) return nullptr;
  plain = {text, false};
  return &plain;
}

void ChunkScanner::Parser::Learn(std::string_view text) {
  before.clear();
  const char* const content = parser.handler().content_at();
  if (content == nullptr || plain.thought) return;
  // An empty content may be a view of nothing.
  if (std::less<>()(content, text.data()) || std::less<>()(text.data() + text.size(), content))
    return;
  const auto begin = static_cast<size_t>(content - text.data());
  before = text.substr(0, begin);
  behind = text.substr(begin + plain.content.size());
  // Between quotes, or it is not what it seems.
  if (!before.ends_with('"') || !behind.starts_with('"')) before.clear();
}

ChunkScanner::ChunkScanner() : parser_(std::make_unique<Parser>()) {}
ChunkScanner::~ChunkScanner() = default;

const ChunkScanner::Plain* ChunkScanner::Scan(std::string_view text) {
  if (const Plain* plain = parser_->MatchLast(text)) return plain;
  auto& parser = parser_->parser;
  parser.reset();
  parser.handler().Reset();
  json::error_code error;
  const size_t n = parser.write_some(false, text.data(), text.size(), error);
  if (error || n != text.size() || !parser.done() || !parser.handler().complete()) return nullptr;
  parser_->plain = parser.handler().plain();
  parser_->Learn(text);
  return &parser_->plain;
}

}  // namespace tandem::gateway::upstream
