#include "engine/tokenizer/byte_unicode.h"

#include <array>

#include "base/utf8.h"

namespace tandem::tokenizer {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr size_t kStandIns = 68;  // bytes that are not printable Latin-1

constexpr bool StandsForItself(unsigned byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Tables {
  std::array<uint16_t, 256> to_unicode{};
  std::array<uint8_t, kStandIns> from_stand_in{};

  constexpr Tables() {
    unsigned n = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (StandsForItself(byte)) {
        to_unicode[byte] = static_cast<uint16_t>(byte);
      } else {
        to_unicode[byte] = static_cast<uint16_t>(kFirstStandIn + n);
        from_stand_in[n++] = static_cast<uint8_t>(byte);
      }
    }
  }
};
constexpr Tables kTables;

}  // namespace

char32_t ByteToUnicode(uint8_t byte) { return kTables.to_unicode[byte]; }

bool AppendBytesFromUnicode(std::string_view text, std::string* out) {
  const size_t start = out->size();
  while (!text.empty()) {
    const utf8::Decoded decoded = utf8::DecodeOne(text);
    const char32_t c = decoded.code_point;
    if (decoded.kind == utf8::Kind::kValid && c < 256 && StandsForItself(c)) {
      out->push_back(static_cast<char>(c));
    } else if (decoded.kind == utf8::Kind::kValid && c >= kFirstStandIn &&
               c < kFirstStandIn + kStandIns) {
      out->push_back(static_cast<char>(kTables.from_stand_in[c - kFirstStandIn]));
    } else {
      out->resize(start);
      return false;
    }
    text.remove_prefix(decoded.length);
  }
  return true;
}

std::string UnicodeFromBytes(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) utf8::Append(ByteToUnicode(static_cast<uint8_t>(byte)), &out);
  return out;
}

}  // namespace tandem::tokenizer
