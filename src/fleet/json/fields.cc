#include "fleet/json/fields.h"

#include <utility>

#include <boost/json.hpp>

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr size_t kMaxTextBytes = size_t{64} << 10;

}  // namespace

Result<json::value> ParseJson(std::string_view text, std::string_view what) {
  boost::system::error_code error;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error) return Err(ErrorCode::kCorrupt, "{} is not JSON: {}", what, error.message());
  return value;
}

JsonFields::JsonFields(const json::value& value, std::string where) : where_(std::move(where)) {
  object_ = value.if_object();
  if (object_ == nullptr) Fail("", "must be an object");
}

const json::value* JsonFields::Member(const char* name, Need need) {
  const json::value* value = object_ != nullptr ? object_->if_contains(name) : nullptr;
  if (value != nullptr && value->is_null()) value = nullptr;
  if (value == nullptr && need == kRequired) Fail(name, "is missing");
  return value;
}

std::string JsonFields::Text(const char* name, Need need) {
  const json::value* value = Member(name, need);
  if (value == nullptr) return {};
  if (!value->is_string()) {
    Fail(name, "must be a string");
    return {};
  }
  if (value->get_string().size() > kMaxTextBytes) {
    Fail(name, "is too long");
    return {};
  }
  return std::string(value->get_string());
}

std::optional<uint64_t> JsonFields::Number(const char* name, Need need) {
  const json::value* value = Member(name, need);
  if (value == nullptr) return std::nullopt;
  boost::system::error_code error;
  const auto number = value->to_number<uint64_t>(error);
  if (error) {
    Fail(name, "must be a whole number that is not negative");
    return std::nullopt;
  }
  return number;
}

int32_t JsonFields::Count(const char* name, int32_t max, Need need) {
  const std::optional<uint64_t> number = Number(name, need);
  if (!number) return 0;
  if (*number > static_cast<uint64_t>(max)) {
    Fail(name, fmt::format("must be at most {}", max));
    return 0;
  }
  return static_cast<int32_t>(*number);
}

std::optional<double> JsonFields::Real(const char* name, Need need) {
  const json::value* value = Member(name, need);
  if (value == nullptr) return std::nullopt;
  boost::system::error_code error;
  const auto number = value->to_number<double>(error);
  if (error || !(number >= 0)) {
    Fail(name, "must be a number that is not negative");
    return std::nullopt;
  }
  return number;
}

std::optional<bool> JsonFields::Bool(const char* name, Need need) {
  const json::value* value = Member(name, need);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) {
    Fail(name, "must be true or false");
    return std::nullopt;
  }
  return value->get_bool();
}

std::vector<const json::value*> JsonFields::List(const char* name, Need need) {
  const json::value* value = Member(name, need);
  if (value == nullptr) return {};
  std::vector<const json::value*> elements;
  if (const json::array* array = value->if_array()) {
    for (const json::value& element : *array) elements.push_back(&element);
  } else {
    Fail(name, "must be a list");
  }
  return elements;
}

std::vector<std::string> JsonFields::Texts(const char* name, Need need) {
  std::vector<std::string> texts;
  for (const json::value* element : List(name, need)) {
    if (!element->is_string() || element->get_string().size() > kMaxTextBytes) {
      Fail(name, "must be strings");
      break;
    }
    texts.emplace_back(element->get_string());
  }
  return texts;
}

const json::value* JsonFields::Object(const char* name, Need need) {
  const json::value* value = Member(name, need);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) {
    Fail(name, "must be an object");
    return nullptr;
  }
  return value;
}

void JsonFields::Fail(std::string_view field, std::string_view problem) {
  if (!failure_.empty()) return;
  failure_ = field.empty() ? fmt::format("{} {}", where_, problem)
                           : fmt::format("{}: {} {}", where_, field, problem);
}

Status JsonFields::Done() const {
  if (!failure_.empty()) return Err(ErrorCode::kCorrupt, "{}", failure_);
  return {};
}

}  // namespace tandem::fleet
