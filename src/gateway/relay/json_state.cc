#include "gateway/relay/json_state.h"

namespace tandem::gateway::relay {
namespace {

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

constexpr int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

size_t JsonState::Push(std::string_view text) {
  if (broken_) return 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool whole = complete();
    if (Take(text[i])) continue;
    behind_value_ = whole;
    broken_ = true;
    return i;
  }
  return text.size();
}

bool JsonState::complete() const {
  if (broken_ || !open_.empty()) return false;
  return state_ == State::kAfterValue || state_ == State::kZero || state_ == State::kInteger ||
         state_ == State::kFraction || state_ == State::kExponentDigits;
}

bool JsonState::in_string() const {
  return state_ == State::kString || state_ == State::kEscape || state_ == State::kHex;
}

size_t JsonState::escape_bytes() const { return in_string() ? n_escape_ : 0; }

bool JsonState::Take(char c) {
  switch (state_) {
    case State::kValue:
      return IsSpace(c) || BeginValue(c);
    case State::kFirstItem:
      if (c == ']') return TakeAfterValue(c);
      return IsSpace(c) || BeginValue(c);
    case State::kFirstKey:
      if (c == '}') return TakeAfterValue(c);
      [[fallthrough]];
    case State::kKey:
      if (IsSpace(c)) return true;
      if (c != '"') return false;
      is_key_ = true;
      state_ = State::kString;
      return true;
    case State::kColon:
      if (c == ':') state_ = State::kValue;
      return c == ':' || IsSpace(c);
    case State::kAfterValue:
      return TakeAfterValue(c);
    case State::kString:
    case State::kEscape:
    case State::kHex:
      return TakeInString(c);
    case State::kLiteral:
      if (c != literal_.front()) return false;
      literal_.remove_prefix(1);
      if (literal_.empty()) EndValue();
      return true;
    default:
      return TakeInNumber(c);
  }
}

bool JsonState::BeginValue(char c) {
  const auto literal = [this](std::string_view rest) {
    literal_ = rest;
    state_ = State::kLiteral;
    return true;
  };
  switch (c) {
    case '[':
    case '{':
      return Open(c);
    case '"':
      is_key_ = false;
      state_ = State::kString;
      return true;
    case 't':
      return literal("rue");
    case 'f':
      return literal("alse");
    case 'n':
      return literal("ull");
    case '-':
      state_ = State::kMinus;
      return true;
    case '0':
      state_ = State::kZero;
      return true;
    default:
      if (!IsDigit(c)) return false;
      state_ = State::kInteger;
      return true;
  }
}

bool JsonState::Open(char bracket) {
  if (open_.size() == kMaxDepth) return false;
  open_.push_back(bracket);
  state_ = bracket == '[' ? State::kFirstItem : State::kFirstKey;
  return true;
}

bool JsonState::TakeInString(char c) {
  if (state_ == State::kEscape) {
    ++n_escape_;
    if (c == 'u') {
      n_left_ = 4;
      hex_ = 0;
      state_ = State::kHex;
      return true;
    }
    n_escape_ = 0;
    state_ = State::kString;
    return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos;
  }
  if (state_ == State::kHex) {
    const int value = HexValue(c);
    if (value < 0) return false;
    hex_ = hex_ * 16 + static_cast<uint32_t>(value);
    ++n_escape_;
    if (--n_left_ > 0) return true;
    // The first half of a pair waits for the second.
    if (hex_ < 0xD800 || hex_ >= 0xDC00) n_escape_ = 0;
    state_ = State::kString;
    return true;
  }
  if (c == '\\') {
    ++n_escape_;
    state_ = State::kEscape;
    return true;
  }
  n_escape_ = 0;
  if (c != '"') return static_cast<unsigned char>(c) >= 0x20;
  state_ = is_key_ ? State::kColon : State::kAfterValue;
  return true;
}

bool JsonState::TakeInNumber(char c) {
  switch (state_) {
    case State::kMinus:
      if (!IsDigit(c)) return false;
      state_ = c == '0' ? State::kZero : State::kInteger;
      return true;
    case State::kInteger:
      if (IsDigit(c)) return true;
      [[fallthrough]];
    case State::kZero:
      if (c == '.') {
        state_ = State::kPoint;
        return true;
      }
      if (c == 'e' || c == 'E') {
        state_ = State::kExponent;
        return true;
      }
      break;
    case State::kPoint:
      state_ = State::kFraction;
      return IsDigit(c);
    case State::kFraction:
      if (IsDigit(c)) return true;
      if (c == 'e' || c == 'E') {
        state_ = State::kExponent;
        return true;
      }
      break;
    case State::kExponent:
      if (c == '+' || c == '-') {
        state_ = State::kExponentSign;
        return true;
      }
      [[fallthrough]];
    case State::kExponentSign:
      state_ = State::kExponentDigits;
      return IsDigit(c);
    default:  // kExponentDigits
      if (IsDigit(c)) return true;
      break;
  }
  EndValue();  // the number ended before this byte
  return TakeAfterValue(c);
}

bool JsonState::TakeAfterValue(char c) {
  if (IsSpace(c)) return true;
  if (open_.empty()) return false;
  const bool object = open_.back() == '{';
  if (c == ',') {
    state_ = object ? State::kKey : State::kValue;
    return true;
  }
  if (c != (object ? '}' : ']')) return false;
  open_.pop_back();
  EndValue();
  return true;
}

void JsonState::EndValue() { state_ = State::kAfterValue; }

}  // namespace tandem::gateway::relay
