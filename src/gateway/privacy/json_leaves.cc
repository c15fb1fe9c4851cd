#include "gateway/privacy/json_leaves.h"

#include <vector>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/serialize.hpp>

namespace tandem::gateway::privacy {
namespace {

namespace json = boost::json;

constexpr size_t kMaxDepth = 100;
constexpr int kMaxStringsInStrings = 3;

Result<std::optional<std::string>> Rewrite(std::string_view text, const LeafRewriter& rewrite,
                                           int level);

bool MayBeJson(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != text.npos && (text[first] == '{' || text[first] == '[');
}

// Writes every event of the parser out again. Numbers come as they were written.
class Handler {
 public:
  static constexpr size_t max_object_size = SIZE_MAX;
  static constexpr size_t max_array_size = SIZE_MAX;
  static constexpr size_t max_key_size = SIZE_MAX;
  static constexpr size_t max_string_size = SIZE_MAX;
  using View = json::string_view;
  using Code = json::error_code;

  Handler(const LeafRewriter* rewrite, int level) : rewrite_(rewrite), level_(level) {}

  std::string& out() { return out_; }
  bool changed() const { return changed_; }
  std::optional<Error>& error() { return error_; }

  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }
  bool on_object_begin(Code&) { return Open('{'); }
  bool on_object_end(size_t, Code&) { return Close('}'); }
  bool on_array_begin(Code&) { return Open('['); }
  bool on_array_end(size_t, Code&) { return Close(']'); }
  bool on_key_part(View part, size_t, Code&) { return Append(part); }
  bool on_key(View part, size_t, Code& code) {
    leaf_ += part;
    Comma();
    levels_.back().key.clear();
    if (!WriteString(code)) return false;
    levels_.back().key = std::move(leaf_);
    leaf_.clear();
    levels_.back().after_key = true;
    out_ += ':';
    return true;
  }
  bool on_string_part(View part, size_t, Code&) { return Append(part); }
  bool on_string(View part, size_t, Code& code) {
    leaf_ += part;
    Comma();
    const bool ok = WriteString(code);
    leaf_.clear();
    return ok;
  }
  bool on_number_part(View part, Code&) { return Append(part); }
  bool on_int64(int64_t, View text, Code& code) { return WriteNumber(text, code); }
  bool on_uint64(uint64_t, View text, Code& code) { return WriteNumber(text, code); }
  bool on_double(double, View text, Code& code) { return WriteNumber(text, code); }
  bool on_bool(bool value, Code&) { return Literal(value ? "true" : "false"); }
  bool on_null(Code&) { return Literal("null"); }
  bool on_comment_part(View, Code&) { return true; }
  bool on_comment(View, Code&) { return true; }

 private:
  struct Level {
    bool first = true;
    bool after_key = false;
    std::string key;  // of the value that comes
  };

  bool Append(View part) {
    leaf_ += part;
    return true;
  }
  bool Open(char c) {
    Comma();
    out_ += c;
    levels_.emplace_back();
    return true;
  }
  bool Close(char c) {
    out_ += c;
    levels_.pop_back();
    return true;
  }
  bool Literal(std::string_view text) {
    Comma();
    out_ += text;
    return true;
  }
  void Comma() {
    if (levels_.empty()) return;
    Level& level = levels_.back();
    if (!level.after_key && !level.first) out_ += ',';
    level.after_key = level.first = false;
  }
  std::string_view Key() const {
    for (size_t i = levels_.size(); i-- > 0;) {
      if (!levels_[i].key.empty()) return levels_[i].key;  // a list's values are of its name
    }
    return {};
  }

  // Calls the rewriter; `*text` is what to write. False on its error.
  bool Ask(std::string_view leaf, std::optional<std::string>* text, Code& code) {
    Result<std::optional<std::string>> rewritten = (*rewrite_)(leaf, Key());
    if (!rewritten) {
      error_ = std::move(rewritten).error();
      code = json::make_error_code(json::error::incomplete);  // any: it only has to stop the parser
      return false;
    }
    *text = *std::move(rewritten);
    changed_ |= text->has_value();
    return true;
  }
  bool WriteString(Code& code) {
    std::optional<std::string> text;
    bool nested = false;
    if (level_ < kMaxStringsInStrings && MayBeJson(leaf_)) {
      auto inside = Rewrite(leaf_, *rewrite_, level_ + 1);
      nested = inside.has_value();
      if (nested) text = *std::move(inside);
      changed_ |= text.has_value();
    }
    if (!nested && !Ask(leaf_, &text, code)) return false;
    out_ += json::serialize(View(text ? *text : leaf_));
    return true;
  }
  bool WriteNumber(View last_part, Code& code) {
    leaf_ += last_part;
    Comma();
    std::optional<std::string> text;
    if (!Ask(leaf_, &text, code)) return false;
    if (text) {
      out_ += json::serialize(View(*text));
    } else {
      out_ += leaf_;
    }
    leaf_.clear();
    return true;
  }

  const LeafRewriter* const rewrite_;
  const int level_;
  std::string out_;
  std::string leaf_;  // parts of the current string or number
  std::vector<Level> levels_;
  bool changed_ = false;
  std::optional<Error> error_;
};

Result<std::optional<std::string>> Rewrite(std::string_view text, const LeafRewriter& rewrite,
                                           int level) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::basic_parser<Handler> parser(options, &rewrite, level);
  json::error_code code;
  const size_t n = parser.write_some(false, text.data(), text.size(), code);
  Handler& handler = parser.handler();
  if (handler.error()) return std::unexpected(*std::move(handler.error()));
  if (code || n != text.size()) {
    return Err(ErrorCode::kInvalidArgument, "this is not JSON that can be read: {}",
               code ? code.message() : "more follows its end");
  }
  if (!handler.changed()) return std::nullopt;
  return std::optional(std::move(handler.out()));
}

}  // namespace

Result<std::optional<std::string>> RewriteJson(std::string_view text, const LeafRewriter& rewrite) {
  return Rewrite(text, rewrite, 0);
}

}  // namespace tandem::gateway::privacy
