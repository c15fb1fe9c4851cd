#include "engine/gguf/value.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "base/check.h"
#include "base/utf8.h"

namespace tandem::gguf {
namespace {

constexpr size_t kArrayHeaderBytes = 4 + 8;  // element type, count

template <typename T>
T Load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

struct Integer {
  bool negative = false;
  uint64_t magnitude_or_bits = 0;  // two's complement where negative
};

// The integer (or bool) at `data`; nothing for other types.
std::optional<Integer> LoadInteger(const std::byte* data, ValueType type) {
  const auto from_signed = [](int64_t value) {
    return Integer{value < 0, static_cast<uint64_t>(value)};
  };
  switch (type) {
    case ValueType::kUint8:
    case ValueType::kBool:
      return Integer{false, Load<uint8_t>(data)};
    case ValueType::kInt8:
      return from_signed(Load<int8_t>(data));
    case ValueType::kUint16:
      return Integer{false, Load<uint16_t>(data)};
    case ValueType::kInt16:
      return from_signed(Load<int16_t>(data));
    case ValueType::kUint32:
      return Integer{false, Load<uint32_t>(data)};
    case ValueType::kInt32:
      return from_signed(Load<int32_t>(data));
    case ValueType::kUint64:
      return Integer{false, Load<uint64_t>(data)};
    case ValueType::kInt64:
      return from_signed(Load<int64_t>(data));
    default:
      return std::nullopt;
  }
}

bool IsInteger(ValueType type) {
  return ScalarBytes(type) != 0 && type != ValueType::kBool && type != ValueType::kFloat32 &&
         type != ValueType::kFloat64;
}

std::string TypeText(const KeyValue& entry) {
  if (entry.type != ValueType::kArray) return std::string(ValueTypeName(entry.type));
  return fmt::format("array of {}", ValueTypeName(entry.element_type));
}

std::unexpected<Error> WrongType(const KeyValue& entry, std::string_view expected) {
  return Err(ErrorCode::kCorrupt, "the value of '{}' is of type {}, expected {}", entry.key,
             TypeText(entry), expected);
}

std::unexpected<Error> OutOfRange(const KeyValue& entry, std::string_view allowed) {
  return Err(ErrorCode::kCorrupt, "the value of '{}' is {}, allowed is {}", entry.key, entry.Text(),
             allowed);
}

std::string_view StringAt(const std::byte* data) {
  return {reinterpret_cast<const char*>(data) + sizeof(uint64_t), Load<uint64_t>(data)};
}

std::string QuotedText(std::string_view text, size_t max_bytes) {
  const bool cut = text.size() > max_bytes;
  std::string shown = utf8::Sanitize(text.substr(0, max_bytes));
  std::ranges::replace_if(shown, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return cut ? fmt::format("\"{}...\" ({} bytes)", shown, text.size())
             : fmt::format("\"{}\"", shown);
}

std::string ScalarText(const std::byte* data, ValueType type) {
  if (type == ValueType::kBool) return Load<uint8_t>(data) != 0 ? "true" : "false";
  if (type == ValueType::kFloat32) return fmt::format("{}", Load<float>(data));
  if (type == ValueType::kFloat64) return fmt::format("{}", Load<double>(data));
  const std::optional<Integer> integer = LoadInteger(data, type);
  TANDEM_CHECK(integer.has_value());
  return integer->negative ? fmt::format("{}", static_cast<int64_t>(integer->magnitude_or_bits))
                           : fmt::format("{}", integer->magnitude_or_bits);
}

}  // namespace

std::string_view ValueTypeName(ValueType type) {
  static constexpr std::array<std::string_view, 13> kNames = {
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  const auto id = static_cast<uint32_t>(type);
  return id < kNames.size() ? kNames[id] : std::string_view();
}

size_t ScalarBytes(ValueType type) {
  static constexpr std::array<uint8_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto id = static_cast<uint32_t>(type);
  return id < kSizes.size() ? kSizes[id] : 0;
}

int64_t IntArray::operator[](size_t i) const {
  TANDEM_CHECK(i < size_);
  return static_cast<int64_t>(
      LoadInteger(data_ + i * ScalarBytes(type_), type_)->magnitude_or_bits);
}

double FloatArray::operator[](size_t i) const {
  TANDEM_CHECK(i < size_);
  return type_ == ValueType::kFloat32 ? Load<float>(data_ + 4 * i) : Load<double>(data_ + 8 * i);
}

Result<std::string_view> KeyValue::GetString() const {
  if (type != ValueType::kString) return WrongType(*this, "string");
  const std::string_view text = StringAt(bytes.data());
  if (!utf8::IsValid(text)) {
    return Err(ErrorCode::kCorrupt, "the value of '{}' is not UTF-8", key);
  }
  return text;
}

Result<uint64_t> KeyValue::GetUint(uint64_t max) const {
  const std::optional<Integer> integer =
      IsInteger(type) ? LoadInteger(bytes.data(), type) : std::nullopt;
  if (!integer) return WrongType(*this, "an integer");
  if (integer->negative || integer->magnitude_or_bits > max) {
    return OutOfRange(*this, fmt::format("0 to {}", max));
  }
  return integer->magnitude_or_bits;
}

Result<int64_t> KeyValue::GetInt() const {
  const std::optional<Integer> integer =
      IsInteger(type) ? LoadInteger(bytes.data(), type) : std::nullopt;
  if (!integer) return WrongType(*this, "an integer");
  if (!integer->negative && integer->magnitude_or_bits > INT64_MAX) {
    return OutOfRange(*this, fmt::format("at most {}", INT64_MAX));
  }
  return static_cast<int64_t>(integer->magnitude_or_bits);
}

Result<double> KeyValue::GetFloat() const {
  double value;
  if (type == ValueType::kFloat32) {
    value = Load<float>(bytes.data());
  } else if (type == ValueType::kFloat64) {
    value = Load<double>(bytes.data());
  } else if (IsInteger(type)) {
    const std::optional<Integer> integer = LoadInteger(bytes.data(), type);
    value = integer->negative
                ? static_cast<double>(static_cast<int64_t>(integer->magnitude_or_bits))
                : static_cast<double>(integer->magnitude_or_bits);
  } else {
    return WrongType(*this, "a number");
  }
  if (!std::isfinite(value)) return OutOfRange(*this, "a finite number");
  return value;
}

Result<bool> KeyValue::GetBool() const {
  if (type != ValueType::kBool && !IsInteger(type)) return WrongType(*this, "bool");
  const std::optional<Integer> integer = LoadInteger(bytes.data(), type);
  if (integer->negative || integer->magnitude_or_bits > 1) return OutOfRange(*this, "0 or 1");
  return integer->magnitude_or_bits == 1;
}

Result<std::vector<std::string_view>> KeyValue::GetStringArray() const {
  if (type != ValueType::kArray || element_type != ValueType::kString) {
    return WrongType(*this, "array of string");
  }
  std::vector<std::string_view> strings;
  strings.reserve(count);  // the parser has found so many in the file
  const std::byte* at = bytes.data() + kArrayHeaderBytes;
  for (uint64_t i = 0; i < count; ++i) {
    strings.push_back(StringAt(at));
    at += sizeof(uint64_t) + strings.back().size();
  }
  return strings;
}

Result<IntArray> KeyValue::GetIntArray() const {
  const bool integers = IsInteger(element_type) || element_type == ValueType::kBool;
  if (type != ValueType::kArray || !integers) return WrongType(*this, "array of integers");
  const std::byte* data = bytes.data() + kArrayHeaderBytes;
  if (element_type == ValueType::kUint64) {
    for (uint64_t i = 0; i < count; ++i) {
      const auto value = Load<uint64_t>(data + 8 * i);
      if (value > INT64_MAX) {
        return Err(ErrorCode::kCorrupt, "element {} of '{}' is {}, allowed is at most {}", i, key,
                   value, INT64_MAX);
      }
    }
  }
  return IntArray(data, count, element_type);
}

Result<FloatArray> KeyValue::GetFloatArray() const {
  const bool floats = element_type == ValueType::kFloat32 || element_type == ValueType::kFloat64;
  if (type != ValueType::kArray || !floats) return WrongType(*this, "array of floats");
  return FloatArray(bytes.data() + kArrayHeaderBytes, count, element_type);
}

std::string KeyValue::Text(size_t max_elements) const {
  const size_t max_bytes = 16 * max_elements;
  if (type == ValueType::kString) return QuotedText(StringAt(bytes.data()), max_bytes);
  if (type != ValueType::kArray) return ScalarText(bytes.data(), type);

  std::string text = "[";
  const std::byte* at = bytes.data() + kArrayHeaderBytes;
  for (uint64_t i = 0; i < std::min<uint64_t>(count, max_elements); ++i) {
    if (i != 0) text += ", ";
    if (element_type == ValueType::kString) {
      text += QuotedText(StringAt(at), max_bytes);
      at += sizeof(uint64_t) + StringAt(at).size();
    } else {
      text += ScalarText(at, element_type);
      at += ScalarBytes(element_type);
    }
  }
  if (count > max_elements) text += fmt::format(", ... {} in all", count);
  return text + "]";
}

}  // namespace tandem::gguf
