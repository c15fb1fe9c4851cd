// JSON to a DocumentNode, by Boost.JSON, and back; and what both formats share.
#include "app/configuration_document.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/utf8.h"

namespace tandem::app {
namespace {

namespace json = boost::json;

json::parse_options JsonOptions() {
  json::parse_options options;
  options.max_depth = kMaxDocumentDepth;
  return options;
}

DocumentPosition PositionAt(std::string_view text, size_t offset) {
  DocumentPosition at{1, 1};
  for (const char c : text.substr(0, offset)) {
    if (c == '\n') {
      ++at.line;
      at.column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
      ++at.column;
    }
  }
  return at;
}

// Boost.JSON tells no positions. A text that it has accepted needs no second look at the grammar:
// this walks along it, notes where things stand, and has Boost.JSON decode the scalars.
class PositionedJson {
 public:
  PositionedJson(std::string_view text, std::string_view file_name)
      : text_(text), file_name_(file_name) {}

  // Errors: kInvalidArgument for a key that an object has twice.
  Result<DocumentNode> Value() {
    SkipSpace();
    const DocumentPosition at = at_;
    switch (text_[offset_]) {
      case '{': {
        TANDEM_ASSIGN_OR_RETURN(DocumentNode::Table table, Object());
        return DocumentNode{.value = std::move(table), .at = at};
      }
      case '[': {
        DocumentNode::Array array;
        for (Step(1), SkipSpace(); text_[offset_] != ']'; SkipComma()) {
          TANDEM_ASSIGN_OR_RETURN(DocumentNode element, Value());
          array.push_back(std::move(element));
        }
        Step(1);
        return DocumentNode{.value = std::move(array), .at = at};
      }
      default:
        return Scalar(at);
    }
  }

 private:
  Result<DocumentNode::Table> Object() {
    DocumentNode::Table table;
    for (Step(1), SkipSpace(); text_[offset_] != '}'; SkipComma()) {
      const DocumentPosition at = at_;
      TANDEM_ASSIGN_OR_RETURN(const DocumentNode key, Scalar(at));
      SkipSpace();
      Step(1);  // the colon
      TANDEM_ASSIGN_OR_RETURN(DocumentNode value, Value());
      table.push_back({std::get<std::string>(key.value), std::move(value), at});
    }
    Step(1);
    std::vector<const DocumentMember*> sorted;
    sorted.reserve(table.size());
    for (const DocumentMember& member : table) sorted.push_back(&member);
    std::ranges::sort(sorted, {}, [](const DocumentMember* m) { return std::tie(m->key, m->at); });
    const auto twice = std::ranges::adjacent_find(sorted, {}, &DocumentMember::key);
    if (twice != sorted.end()) {
      const DocumentMember& second = **std::next(twice);
      return Err(ErrorCode::kInvalidArgument,
                 "{}:{}:{}: '{}' is there twice; the first one is in line {}", file_name_,
                 second.at.line, second.at.column,
                 utf8::Sanitize(std::string_view(second.key).substr(0, 64)), (*twice)->at.line);
    }
    return table;
  }

  Result<DocumentNode> Scalar(DocumentPosition at) {
    size_t end = offset_ + 1;
    if (text_[offset_] == '"') {
      while (text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
      ++end;
    } else {
      end = std::min(text_.find_first_of(",]} \t\r\n", offset_), text_.size());
    }
    const json::value value = json::parse(text_.substr(offset_, end - offset_), {}, JsonOptions());
    Step(end - offset_);
    DocumentNode node{.value = DocumentNode::Other{"null"}, .at = at};
    if (value.is_string()) {
      node.value = std::string(value.get_string());
    } else if (value.is_bool()) {
      node.value = value.get_bool();
    } else if (value.is_int64()) {
      node.value = value.get_int64();
    } else if (value.is_number()) {
      node.value = value.to_number<double>();
    }
    return node;
  }

  void SkipSpace() {
    while (offset_ < text_.size() &&
           std::string_view(" \t\r\n").find(text_[offset_]) != std::string_view::npos) {
      Step(1);
    }
  }
  void SkipComma() {
    SkipSpace();
    if (text_[offset_] == ',') Step(1);
    SkipSpace();
  }
  void Step(size_t bytes) {
    for (const char c : text_.substr(offset_, bytes)) {
      if (c == '\n') {
        ++at_.line;
        at_.column = 1;
      } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
        ++at_.column;
      }
    }
    offset_ += bytes;
  }

  const std::string_view text_;
  const std::string_view file_name_;
  size_t offset_ = 0;
  DocumentPosition at_{1, 1};
};

void AppendJson(const DocumentNode& node, size_t indent, std::string* text);

// One entry a line for tables and lists of tables, one line for the rest.
void AppendJson(const DocumentNode::Table& table, size_t indent, std::string* text) {
  const std::string margin(indent + 2, ' ');
  *text += '{';
  for (size_t i = 0; i < table.size(); ++i) {
    *text += fmt::format("{}\n{}{}: ", i == 0 ? "" : ",", margin, json::serialize(table[i].key));
    AppendJson(table[i].value, indent + 2, text);
  }
  *text += table.empty() ? "}" : fmt::format("\n{}}}", std::string(indent, ' '));
}

void AppendJson(const DocumentNode& node, size_t indent, std::string* text) {
  if (const auto* table = std::get_if<DocumentNode::Table>(&node.value)) {
    AppendJson(*table, indent, text);
  } else if (const auto* array = std::get_if<DocumentNode::Array>(&node.value)) {
    *text += '[';
    for (size_t i = 0; i < array->size(); ++i) {
      if (i > 0) *text += ", ";
      AppendJson((*array)[i], indent, text);
    }
    *text += ']';
  } else if (const auto* string = std::get_if<std::string>(&node.value)) {
    *text += json::serialize(*string);
  } else {
    // As TOML writes it; a number of a configuration is finite, as its range says.
    const bool other = std::holds_alternative<DocumentNode::Other>(node.value);
    *text += other ? "null" : FormatDocumentValue(node);
  }
}

void Flatten(const DocumentNode& node, const std::string& path,
             std::vector<std::pair<std::string, DocumentNode>>* values) {
  if (const auto* table = std::get_if<DocumentNode::Table>(&node.value)) {
    for (const DocumentMember& member : *table) {
      Flatten(member.value, path.empty() ? member.key : fmt::format("{}.{}", path, member.key),
              values);
    }
    return;
  }
  const auto* array = std::get_if<DocumentNode::Array>(&node.value);
  const bool tables = array != nullptr && !array->empty() &&
                      std::holds_alternative<DocumentNode::Table>(array->front().value);
  if (!tables) {
    values->emplace_back(path, node);
    return;
  }
  for (size_t i = 0; i < array->size(); ++i) {
    Flatten((*array)[i], fmt::format("{}[{}]", path, i), values);
  }
}

}  // namespace

std::string_view DocumentKindName(const DocumentNode& node) {
  struct Namer {
    std::string_view operator()(const DocumentNode::Other& other) { return other.name; }
    std::string_view operator()(bool) { return "true or false"; }
    std::string_view operator()(int64_t) { return "a whole number"; }
    std::string_view operator()(double) { return "a number"; }
    std::string_view operator()(const std::string&) { return "a string"; }
    std::string_view operator()(const DocumentNode::Array&) { return "a list"; }
    std::string_view operator()(const DocumentNode::Table&) { return "a table"; }
  };
  return std::visit(Namer(), node.value);
}

const DocumentNode* FindMember(const DocumentNode::Table& table, std::string_view key) {
  const auto found = std::ranges::find(table, key, &DocumentMember::key);
  return found == table.end() ? nullptr : &found->value;
}

Result<DocumentNode> ParseDocument(std::string_view text, std::string_view file_name) {
  if (text.size() > kMaxDocumentBytes) {
    return Err(ErrorCode::kInvalidArgument, "{}: it has {} bytes; a configuration may have {}",
               file_name, text.size(), kMaxDocumentBytes);
  }
  if (const size_t wrong = utf8::FindInvalid(text); wrong != utf8::npos) {
    const DocumentPosition at = PositionAt(text, wrong);
    return Err(ErrorCode::kInvalidArgument, "{}:{}:{}: this is no UTF-8; save the file as UTF-8",
               file_name, at.line, at.column);
  }
  // Some editors begin a file with a byte order mark.
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string_view::npos && text[first] == '{';
  return is_json ? ParseJsonDocument(text, file_name) : ParseTomlDocument(text, file_name);
}

Result<DocumentNode> ParseJsonDocument(std::string_view text, std::string_view file_name) {
  json::parser parser({}, JsonOptions());
  json::error_code error;
  size_t read = parser.write_some(text.data(), text.size(), error);
  if (!error && text.find_first_not_of(" \t\r\n", read) != std::string_view::npos) {
    read = text.find_first_not_of(" \t\r\n", read);
    error = json::error::extra_data;
  }
  if (error) {
    const DocumentPosition at = PositionAt(text, read);
    return Err(ErrorCode::kInvalidArgument, "{}:{}:{}: this is no JSON: {}", file_name, at.line,
               at.column, error.message());
  }
  if (!parser.release().is_object()) {
    return Err(ErrorCode::kInvalidArgument, "{}:1:1: a configuration is an object: {{...}}",
               file_name);
  }
  return PositionedJson(text, file_name).Value();
}

std::string FormatJsonDocument(const DocumentNode::Table& root) {
  std::string text;
  AppendJson(root, 0, &text);
  return text + "\n";
}

std::vector<std::pair<std::string, DocumentNode>> FlattenDocument(const DocumentNode::Table& root) {
  std::vector<std::pair<std::string, DocumentNode>> values;
  Flatten(DocumentNode{.value = root}, "", &values);
  return values;
}

}  // namespace tandem::app
