#include "gateway/openai/object_reader.h"

#include <cmath>
#include <iterator>

#include "base/utf8.h"
#include "gateway/openai/json_text.h"

namespace tandem::gateway::openai {
namespace {

constexpr size_t kMaxParamBytes = 200;
constexpr size_t kMaxMessageBytes = 600;

// At most `max_bytes` of it, "..." included, without half a character.
std::string Shorten(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  std::string_view kept = text.substr(0, max_bytes - 3);
  if (const size_t cut = utf8::FindInvalid(kept); cut != utf8::npos) kept = kept.substr(0, cut);
  return std::string(kept) + "...";
}

void AppendDouble(double value, std::string* out) {
  if (!std::isfinite(value)) {  // the text was beyond a double; so is this
    *out += value < 0 ? "-1e999" : "1e999";
    return;
  }
  const size_t start = out->size();
  fmt::format_to(std::back_inserter(*out), "{}", value);
  // 1.0 must not become the integer 1.
  if (out->find_first_of(".e", start) == std::string::npos) *out += ".0";
}

}  // namespace

Failure FieldFailure(FailureCode code, std::string_view param, std::string_view what) {
  std::string shown = Shorten(param, kMaxParamBytes);
  std::string message = Shorten(fmt::format("'{}' {}", shown, what), kMaxMessageBytes);
  return Failure{code, std::move(message), std::move(shown)};
}

void AppendJsonValue(const boost::json::value& value, std::string* out) {
  char separator = '\0';
  const auto separate = [&] {
    if (separator != '\0') *out += separator;
    separator = ',';
  };
  if (const boost::json::object* object = value.if_object()) {
    *out += '{';
    for (const auto& entry : *object) {
      separate();
      AppendJsonString(std::string_view(entry.key().data(), entry.key().size()), out);
      *out += ':';
      AppendJsonValue(entry.value(), out);
    }
    *out += '}';
  } else if (const boost::json::array* array = value.if_array()) {
    *out += '[';
    for (const boost::json::value& item : *array) {
      separate();
      AppendJsonValue(item, out);
    }
    *out += ']';
  } else if (const boost::json::string* text = value.if_string()) {
    AppendJsonString(std::string_view(text->data(), text->size()), out);
  } else if (const double* number = value.if_double()) {
    AppendDouble(*number, out);
  } else {
    *out += boost::json::serialize(value);  // null, booleans and integers
  }
}

std::string_view KindName(const boost::json::value& value) {
  switch (value.kind()) {
    case boost::json::kind::null:
      return "null";
    case boost::json::kind::bool_:
      return "a boolean";
    case boost::json::kind::int64:
    case boost::json::kind::uint64:
    case boost::json::kind::double_:
      return "a number";
    case boost::json::kind::string:
      return "a string";
    case boost::json::kind::array:
      return "an array";
    case boost::json::kind::object:
      return "an object";
  }
  return "something else";
}

std::optional<int64_t> AsInteger(const boost::json::value& value) {
  if (const int64_t* integer = value.if_int64()) return *integer;
  if (const double* number = value.if_double()) {
    // 2^53: above it a double no longer says which integer was meant.
    constexpr double kExact = 9007199254740992.0;
    if (std::trunc(*number) == *number && std::abs(*number) <= kExact) {
      return static_cast<int64_t>(*number);
    }
  }
  return std::nullopt;
}

std::string ObjectReader::PathOf(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const boost::json::value* ObjectReader::Find(std::string_view name) const {
  const boost::json::value* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Parsed<std::optional<bool>> ObjectReader::Bool(std::string_view name) const {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (const bool* flag = value->if_bool()) return *flag;
  return Invalid(PathOf(name), "must be true or false, not {}", KindName(*value));
}

Parsed<std::optional<std::string_view>> ObjectReader::String(std::string_view name) const {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (const boost::json::string* text = value->if_string()) {
    return std::string_view(text->data(), text->size());
  }
  return Invalid(PathOf(name), "must be a string, not {}", KindName(*value));
}

Parsed<std::optional<double>> ObjectReader::Number(std::string_view name, double lowest,
                                                   double highest) const {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    return Invalid(PathOf(name), "must be a number, not {}", KindName(*value));
  }
  const double number = value->to_number<double>();
  // Written so that what is not finite fails too.
  if (!(number >= lowest && number <= highest)) {
    return Invalid(PathOf(name), "must be between {} and {}, not {}", lowest, highest, number);
  }
  return number;
}

Parsed<std::optional<int64_t>> ObjectReader::Integer(std::string_view name, int64_t lowest,
                                                     int64_t highest) const {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> integer = AsInteger(*value);
  if (!integer && !value->is_number()) {
    return Invalid(PathOf(name), "must be an integer, not {}", KindName(*value));
  }
  if (!integer || *integer < lowest || *integer > highest) {
    std::string given;
    AppendJsonValue(*value, &given);
    return Invalid(PathOf(name), "must be an integer between {} and {}, not {}", lowest, highest,
                   given);
  }
  return *integer;
}

Parsed<const boost::json::array*> ObjectReader::Array(std::string_view name) const {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return nullptr;
  if (const boost::json::array* array = value->if_array()) return array;
  return Invalid(PathOf(name), "must be an array, not {}", KindName(*value));
}

Parsed<const boost::json::object*> ObjectReader::Object(std::string_view name) const {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return nullptr;
  if (const boost::json::object* object = value->if_object()) return object;
  return Invalid(PathOf(name), "must be an object, not {}", KindName(*value));
}

}  // namespace tandem::gateway::openai
