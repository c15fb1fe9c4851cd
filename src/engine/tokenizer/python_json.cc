#include "engine/tokenizer/python_json.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <iterator>

#include <fmt/format.h>
#include <boost/json.hpp>

namespace tandem::tokenizer {
namespace {

namespace json = boost::json;

// float.__repr__: the shortest digits that read back as the same number; an exponent only below
// 1e-4 and from 1e16 on.
void AppendPythonFloat(double value, std::string* out) {
  if (!std::isfinite(value)) {
    out->append(std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    return;
  }
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));  // "-d.ddde+xx"
  if (text.starts_with('-')) {
    out->push_back('-');
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  std::from_chars(text.data() + e + 2, text.data() + text.size(), exponent);
  if (text[e + 1] == '-') exponent = -exponent;
  if (exponent < -4 || exponent >= 16) {
    out->append(text);
    return;
  }
  std::string digits(text.substr(0, 1));
  if (e > 2) digits += text.substr(2, e - 2);
  if (exponent < 0) {
    out->append("0.").append(static_cast<size_t>(-exponent - 1), '0').append(digits);
    return;
  }
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < whole) digits.resize(whole, '0');
  out->append(digits, 0, whole).append(".");
  out->append(digits.size() == whole ? "0" : digits.substr(whole));
}

}  // namespace

void AppendPythonJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        out->append("\\\"");
        break;
      case '\\':
        out->append("\\\\");
        break;
      case '\n':
        out->append("\\n");
        break;
      case '\r':
        out->append("\\r");
        break;
      case '\t':
        out->append("\\t");
        break;
      case '\f':
        out->append("\\f");
        break;
      case '\b':
        out->append("\\b");
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          fmt::format_to(std::back_inserter(*out), "\\u{:04x}", c);
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

// Recursion is bounded by the parser's depth limit of 32.
void AppendPythonJson(const json::value& value, std::string* out) {
  std::string_view separator;
  switch (value.kind()) {
    case json::kind::null:
      out->append("null");
      break;
    case json::kind::bool_:
      out->append(value.get_bool() ? "true" : "false");
      break;
    case json::kind::int64:
      out->append(fmt::format_int(value.get_int64()).c_str());
      break;
    case json::kind::uint64:
      out->append(fmt::format_int(value.get_uint64()).c_str());
      break;
    case json::kind::double_:
      AppendPythonFloat(value.get_double(), out);
      break;
    case json::kind::string:
      AppendPythonJsonString({value.get_string().data(), value.get_string().size()}, out);
      break;
    case json::kind::array:
      out->push_back('[');
      for (const json::value& element : value.get_array()) {
        out->append(separator);
        AppendPythonJson(element, out);
        separator = ", ";
      }
      out->push_back(']');
      break;
    case json::kind::object:
      out->push_back('{');
      for (const auto& member : value.get_object()) {
        out->append(separator);
        AppendPythonJsonString({member.key().data(), member.key().size()}, out);
        out->append(": ");
        AppendPythonJson(member.value(), out);
        separator = ", ";
      }
      out->push_back('}');
      break;
  }
}

Result<std::string> PythonJson(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse({text.data(), text.size()}, error);
  if (error) return Err(ErrorCode::kInvalidArgument, "not JSON: {}", error.message());
  std::string out;
  AppendPythonJson(value, &out);
  return out;
}

}  // namespace tandem::tokenizer
