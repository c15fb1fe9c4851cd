#include "base/utf8.h"

#include <cstring>

#include "base/check.h"

namespace tandem::utf8 {
namespace {

// How a lead byte continues: number of bytes, and the range of the second one.
struct Lead {
  uint8_t length;
  uint8_t second_min;
  uint8_t second_max;
};

Lead LeadOf(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Decoded DecodeOne(std::string_view text) {
  TANDEM_CHECK(!text.empty());
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return {Kind::kValid, byte(0), 1};
  const Lead lead = LeadOf(byte(0));
  if (lead.length == 0) return {Kind::kInvalid, kReplacement, 1};
  // 0x7F >> length keeps the payload bits of the lead byte: 5, 4 or 3 of them.
  char32_t code_point = byte(0) & (0x7Fu >> lead.length);
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {Kind::kIncomplete, kReplacement, i};
    const uint8_t low = i == 1 ? lead.second_min : 0x80;
    const uint8_t high = i == 1 ? lead.second_max : 0xBF;
    if (byte(i) < low || byte(i) > high) return {Kind::kInvalid, kReplacement, i};
    code_point = (code_point << 6) | (byte(i) & 0x3F);
  }
  return {Kind::kValid, code_point, lead.length};
}

size_t FindInvalid(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    // Most text is ASCII: eight bytes at a time while none has its highest bit set.
    uint64_t bytes = 0;
    if (at + sizeof(bytes) <= text.size()) {
      std::memcpy(&bytes, text.data() + at, sizeof(bytes));
      if ((bytes & 0x8080808080808080) == 0) {
        at += sizeof(bytes);
        continue;
      }
    }
    if (static_cast<uint8_t>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Decoded decoded = DecodeOne(text.substr(at));
    if (decoded.kind != Kind::kValid) return at;
    at += decoded.length;
  }
  return npos;
}

std::string Sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Decoded decoded = DecodeOne(text);
    if (decoded.kind == Kind::kValid) {
      out.append(text.substr(0, decoded.length));
    } else {
      Append(kReplacement, &out);
    }
    text.remove_prefix(decoded.length);
  }
  return out;
}

void Append(char32_t code_point, std::string* out) {
  const auto put = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace tandem::utf8
