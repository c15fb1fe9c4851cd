// TOML to a DocumentNode, by toml++, and back.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "app/configuration_document.h"
#include "base/utf8.h"

// The parser recurses into values, and tables destroy what they hold by recursion. Some texts
// ("[[~") fail one of its assertions: that is an error like others here, not the end of the
// process, and nothing that an optimiser may take for granted. The same in every file that includes
// it (gateway/usage/prices.cc): its functions are inline.
#undef NDEBUG
#define TOML_ASSERT(expr) ((expr) ? void() : throw std::logic_error("toml++"))
#define TOML_MAX_NESTED_VALUES 16
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/impl/forward_declarations.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE \
  return {}
#include <toml++/impl/unicode.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE throw std::logic_error("toml++")
#include <toml++/toml.h>

namespace tandem::app {
namespace {

static_assert(TOML_MAX_NESTED_VALUES == kMaxDocumentDepth);

DocumentPosition PositionOf(const toml::source_region& region) {
  return {region.begin.line, region.begin.column};
}

DocumentNode Convert(const toml::node& node);

DocumentNode::Table ConvertTable(const toml::table& table) {
  DocumentNode::Table members;
  members.reserve(table.size());
  for (const auto& [key, value] : table) {
    members.push_back({std::string(key.str()), Convert(value), PositionOf(key.source())});
  }
  // toml++ sorts by name.
  std::ranges::sort(members, {}, &DocumentMember::at);
  return members;
}

DocumentNode Convert(const toml::node& node) {
  DocumentNode result{.value = DocumentNode::Other{"a date"}, .at = PositionOf(node.source())};
  if (const toml::table* table = node.as_table()) {
    result.value = ConvertTable(*table);
  } else if (const toml::array* array = node.as_array()) {
    DocumentNode::Array elements;
    elements.reserve(array->size());
    for (const toml::node& element : *array) elements.push_back(Convert(element));
    result.value = std::move(elements);
  } else if (const auto* text = node.as_string()) {
    result.value = text->get();
  } else if (const auto* number = node.as_integer()) {
    result.value = number->get();
  } else if (const auto* real = node.as_floating_point()) {
    result.value = real->get();
  } else if (const auto* boolean = node.as_boolean()) {
    result.value = boolean->get();
  }
  return result;
}

// Nothing where the parser failed one of its assertions.
std::optional<toml::parse_result> TryParse(std::string_view text) {
  try {
    return toml::parse(text);
  } catch (const std::logic_error&) {
    return std::nullopt;
  }
}

// The first line with which TryParse gives nothing, for a text with which it does.
size_t LineThatFails(std::string_view text) {
  std::vector<size_t> ends;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') ends.push_back(i + 1);
  }
  size_t first = 0;
  size_t last = ends.size();  // the one behind the last line break
  while (first < last) {
    const size_t middle = first + (last - first) / 2;
    if (TryParse(text.substr(0, ends[middle]))) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first + 1;
}

bool IsBareKey(std::string_view key) {
  return !key.empty() && std::ranges::all_of(key, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

std::string QuoteToml(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        quoted += "\\\"";
        break;
      case '\\':
        quoted += "\\\\";
        break;
      case '\n':
        quoted += "\\n";
        break;
      case '\t':
        quoted += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          quoted += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
        } else {
          quoted += c;
        }
    }
  }
  return quoted + '"';
}

std::string FormatReal(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

bool IsTable(const DocumentNode& node) {
  return std::holds_alternative<DocumentNode::Table>(node.value);
}
bool IsArrayOfTables(const DocumentNode& node) {
  const auto* array = std::get_if<DocumentNode::Array>(&node.value);
  return array != nullptr && !array->empty() && std::ranges::all_of(*array, IsTable);
}

class TomlWriter {
 public:
  explicit TomlWriter(const DocumentComments* comments) : comments_(comments) {}

  // `name` is the table's header, `path` what comments know it by.
  void Write(const DocumentNode::Table& table, const std::string& name, const std::string& path) {
    for (const DocumentMember& member : table) {
      if (IsTable(member.value) || IsArrayOfTables(member.value)) continue;
      const std::string comment = comments_ ? comments_->ForValue(Join(path, member.key)) : "";
      text_ += fmt::format("{} = {}{}{}\n", Key(member.key), FormatDocumentValue(member.value),
                           comment.empty() ? "" : "  # ", comment);
    }
    for (const DocumentMember& member : table) {
      const std::string child = Join(name, Key(member.key));
      if (const auto* section = std::get_if<DocumentNode::Table>(&member.value.value)) {
        Header(fmt::format("[{}]", child), Join(path, member.key));
        Write(*section, child, Join(path, member.key));
      } else if (IsArrayOfTables(member.value)) {
        const auto& array = std::get<DocumentNode::Array>(member.value.value);
        for (size_t i = 0; i < array.size(); ++i) {
          const std::string element = fmt::format("{}[{}]", Join(path, member.key), i);
          Header(fmt::format("[[{}]]", child), element);
          Write(std::get<DocumentNode::Table>(array[i].value), child, element);
        }
      }
    }
  }

  std::string Take() { return std::move(text_); }

 private:
  static std::string Join(const std::string& path, std::string_view key) {
    return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
  }
  static std::string Key(std::string_view key) {
    return IsBareKey(key) ? std::string(key) : QuoteToml(key);
  }
  void Header(const std::string& header, const std::string& path) {
    const std::string comment = comments_ ? comments_->ForTable(path) : "";
    text_ += fmt::format("{}{}{}{}\n", text_.empty() ? "" : "\n", header,
                         comment.empty() ? "" : "  # ", comment);
  }

  const DocumentComments* const comments_;
  std::string text_;
};

}  // namespace

Result<DocumentNode> ParseTomlDocument(std::string_view text, std::string_view file_name) {
  uint32_t line = 1;
  int dots = 0;
  for (const char c : text) {
    if (c == '\n') {
      ++line;
      dots = 0;
    } else if (c == '.' && ++dots > kMaxDotsInALine) {
      return Err(ErrorCode::kInvalidArgument,
                 "{}:{}:1: this line has more than {} dots; break it into several", file_name, line,
                 kMaxDotsInALine);
    }
  }
  const std::optional<toml::parse_result> parsed = TryParse(text);
  if (!parsed) {
    return Err(ErrorCode::kInvalidArgument,
               "{}:{}:1: this is no TOML: look at the brackets and names of this line", file_name,
               LineThatFails(text));
  }
  if (!*parsed) {
    const toml::parse_error& error = parsed->error();
    const DocumentPosition at = PositionOf(error.source());
    return Err(ErrorCode::kInvalidArgument, "{}:{}:{}: this is no TOML: {}", file_name, at.line,
               at.column, utf8::Sanitize(error.description()));
  }
  return DocumentNode{.value = ConvertTable(parsed->table()), .at = {1, 1}};
}

std::string FormatDocumentValue(const DocumentNode& node) {
  struct Formatter {
    std::string operator()(const DocumentNode::Other& other) { return std::string(other.name); }
    std::string operator()(bool value) { return value ? "true" : "false"; }
    std::string operator()(int64_t value) { return fmt::format("{}", value); }
    std::string operator()(double value) { return FormatReal(value); }
    std::string operator()(const std::string& text) { return QuoteToml(text); }
    std::string operator()(const DocumentNode::Array& array) {
      std::string list;
      for (const DocumentNode& element : array) {
        list += (list.empty() ? "" : ", ") + FormatDocumentValue(element);
      }
      return "[" + list + "]";
    }
    std::string operator()(const DocumentNode::Table& table) {
      std::string list;
      for (const DocumentMember& member : table) {
        list += fmt::format("{}{} = {}", list.empty() ? "" : ", ",
                            IsBareKey(member.key) ? member.key : QuoteToml(member.key),
                            FormatDocumentValue(member.value));
      }
      return "{" + list + "}";
    }
  };
  return std::visit(Formatter(), node.value);
}

std::string FormatTomlDocument(const DocumentNode::Table& root, const DocumentComments* comments) {
  TomlWriter writer(comments);
  writer.Write(root, "", "");
  return writer.Take();
}

}  // namespace tandem::app
