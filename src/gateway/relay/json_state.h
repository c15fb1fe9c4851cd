// Where in a JSON text one is, while it is still being written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace tandem::gateway::relay {

// Checks one JSON value (RFC 8259), byte by byte, with white space around it. Thread: one.
class JsonState {
 public:
  static constexpr size_t kMaxDepth = 512;

  // Takes bytes up to the first that no JSON text could have there, and says how many it took. From
  // then on nothing is taken. Cost: a few ns a byte.
  size_t Push(std::string_view text);

  // The value is whole. A number at the top level is, as soon as it may end.
  bool complete() const;
  // A byte was refused; `behind_value`: because the value was whole already.
  bool broken() const { return broken_; }
  bool behind_value() const { return behind_value_; }
  bool started() const { return state_ != State::kValue || !open_.empty(); }
  bool in_string() const;
  // Between a backslash and the last byte that belongs to it, or between the halves of a surrogate
  // pair; text cut there means nothing.
  bool in_escape() const { return escape_bytes() > 0; }
  size_t escape_bytes() const;  // how much of it has been seen
  size_t depth() const { return open_.size(); }

 private:
  enum class State : uint8_t {
    kValue,       // a value must come
    kFirstItem,   // behind '[': a value or ']'
    kFirstKey,    // behind '{': a key or '}'
    kKey,         // behind ',' in an object
    kColon,       // behind a key
    kAfterValue,  // ',' or what closes; at the top level nothing
    kString,
    kEscape,   // behind a backslash
    kHex,      // n_left_ hexadecimal digits of \u
    kLiteral,  // the rest of true, false or null
    kMinus,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,      // behind 'e'
    kExponentSign,  // and its sign
    kExponentDigits,
  };

  bool Take(char c);
  bool BeginValue(char c);
  bool TakeInString(char c);
  bool TakeInNumber(char c);
  bool TakeAfterValue(char c);
  bool Open(char bracket);
  void EndValue();

  State state_ = State::kValue;
  std::vector<char> open_;  // '[' and '{', outermost first
  bool is_key_ = false;     // the string is an object's key
  size_t n_escape_ =
      0;  // bytes since the backslash, that of a pair's first half where there is one
  int n_left_ = 0;
  uint32_t hex_ = 0;
  std::string_view literal_;  // what is left of it
  bool broken_ = false;
  bool behind_value_ = false;
};

}  // namespace tandem::gateway::relay
