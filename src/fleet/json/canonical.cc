#include "fleet/json/canonical.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxWhole = int64_t{1} << 53;

void AppendString(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          *out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// `path` is the member that is written, for messages.
Status Append(const json::value& value, const std::string& path, std::string* out) {
  switch (value.kind()) {
    case json::kind::null:
      *out += "null";
      return {};
    case json::kind::bool_:
      *out += value.get_bool() ? "true" : "false";
      return {};
    case json::kind::int64:
    case json::kind::uint64: {
      boost::system::error_code error;
      const auto number = value.to_number<int64_t>(error);
      if (error || number > kMaxWhole || number < -kMaxWhole) {
        return Err(ErrorCode::kInvalidArgument, "{} is above 2^53 in magnitude", path);
      }
      *out += fmt::format("{}", number);
      return {};
    }
    case json::kind::double_:
      return Err(ErrorCode::kInvalidArgument,
                 "{} is no whole number; what is signed has whole numbers only (shares in parts "
                 "per million, rates in thousandths)",
                 path);
    case json::kind::string:
      AppendString(value.get_string(), out);
      return {};
    case json::kind::array: {
      *out += '[';
      size_t i = 0;
      for (const json::value& element : value.get_array()) {
        if (i > 0) *out += ',';
        TANDEM_RETURN_IF_ERROR(Append(element, fmt::format("{}[{}]", path, i), out));
        ++i;
      }
      *out += ']';
      return {};
    }
    case json::kind::object: {
      std::vector<const json::key_value_pair*> members;
      for (const auto& member : value.get_object()) members.push_back(&member);
      std::ranges::sort(members, {},
                        [](const auto* member) { return std::string_view(member->key()); });
      *out += '{';
      for (const json::key_value_pair* member : members) {
        const std::string_view name = member->key();
        if (!IsAscii(name)) {
          return Err(ErrorCode::kInvalidArgument, "a name in {} has letters outside ASCII", path);
        }
        if (member != members.front()) *out += ',';
        AppendString(name, out);
        *out += ':';
        TANDEM_RETURN_IF_ERROR(Append(member->value(), fmt::format("{}.{}", path, name), out));
      }
      *out += '}';
      return {};
    }
  }
  return {};
}

}  // namespace

Result<std::string> CanonicalJson(const json::value& value) {
  std::string out;
  TANDEM_RETURN_IF_ERROR(Append(value, "the document", &out));
  return out;
}

}  // namespace tandem::fleet
