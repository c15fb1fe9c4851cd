// Typed, range-checked access to one JSON object of a request; every error names the field's path.
// Private to gateway/openai: it is the only header of the room that shows Boost.JSON.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "gateway/provider/failure.h"

namespace tandem::gateway::openai {

template <typename T>
using Parsed = std::expected<T, Failure>;

// "'param' what", both cut to a length that is fit to send back: they may quote the request.
Failure FieldFailure(FailureCode code, std::string_view param, std::string_view what);

// return Invalid("top_p", "must be at most 1, not {}", value);
template <typename... Args>
std::unexpected<Failure> Invalid(std::string_view param, fmt::format_string<Args...> format,
                                 Args&&... args) {
  return std::unexpected(FieldFailure(FailureCode::kInvalidRequest, param,
                                      fmt::format(format, std::forward<Args>(args)...)));
}

template <typename... Args>
std::unexpected<Failure> Unsupported(std::string_view param, fmt::format_string<Args...> format,
                                     Args&&... args) {
  return std::unexpected(FieldFailure(FailureCode::kUnsupported, param,
                                      fmt::format(format, std::forward<Args>(args)...)));
}

// "a string", "an array", ...: for messages.
std::string_view KindName(const boost::json::value& value);

// An integer from a JSON number; 3.0 counts as 3, as some languages know only doubles.
std::optional<int64_t> AsInteger(const boost::json::value& value);

// Appends JSON text that reads back as the same value. Unlike boost::json::serialize, which turns
// 0.5 into 5E-1, it writes numbers as people do: this text goes into prompts and to clients.
// Recursion is as deep as the value, which the parser has limited.
void AppendJsonValue(const boost::json::value& value, std::string* out);

// Absent and null are nothing; another type or a value out of range is an error.
class ObjectReader {
 public:
  // `path` is "" for the body itself, else for example "messages[2]".
  ObjectReader(const boost::json::object& object, std::string path)
      : object_(object), path_(std::move(path)) {}

  std::string PathOf(std::string_view name) const;

  const boost::json::value* Find(std::string_view name) const;  // null: absent or JSON null
  Parsed<std::optional<bool>> Bool(std::string_view name) const;
  Parsed<std::optional<std::string_view>> String(std::string_view name) const;
  Parsed<std::optional<double>> Number(std::string_view name, double lowest, double highest) const;
  Parsed<std::optional<int64_t>> Integer(std::string_view name, int64_t lowest,
                                         int64_t highest) const;
  Parsed<const boost::json::array*> Array(std::string_view name) const;
  Parsed<const boost::json::object*> Object(std::string_view name) const;

 private:
  const boost::json::object& object_;
  const std::string path_;
};

}  // namespace tandem::gateway::openai
