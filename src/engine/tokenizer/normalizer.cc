#include "engine/tokenizer/normalizer.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <utf8proc.h>

#include "base/check.h"
#include "base/utf8.h"

namespace tandem::tokenizer {
namespace {

// Below this nothing decomposes to or composes with anything before it, so such text is in NFC.
constexpr uint8_t kFirstLeadByteThatMatters = 0xCC;  // of U+0300

bool IsTriviallyNfc(std::string_view text) {
  return std::ranges::all_of(
      text, [](char byte) { return static_cast<uint8_t>(byte) < kFirstLeadByteThatMatters; });
}

int CombiningClass(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

std::vector<utf8proc_int32_t> Decompose(std::string_view text) {
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
  constexpr utf8proc_ssize_t kLongest = 8;  // canonical decompositions have at most 4 code points
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size());
  while (!text.empty()) {
    const utf8::Decoded decoded = utf8::DecodeOne(text);
    text.remove_prefix(decoded.length);
    utf8proc_int32_t parts[kLongest];
    const utf8proc_ssize_t n = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(decoded.code_point), parts, kLongest, kOptions, nullptr);
    TANDEM_CHECK(n > 0 && n <= kLongest);
    out.insert(out.end(), parts, parts + n);
  }
  return out;
}

// Puts one run of combining marks into canonical order: a stable counting sort by combining class.
// utf8proc's own ordering is an insertion sort, and a text of alternating marks would take it
// quadratic time.
void OrderRun(std::span<utf8proc_int32_t> run) {
  if (std::ranges::is_sorted(run, {}, CombiningClass)) return;
  std::array<size_t, 257> next{};  // combining classes are 0..254
  for (const auto mark : run) ++next[static_cast<size_t>(CombiningClass(mark)) + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  const std::vector<utf8proc_int32_t> unordered(run.begin(), run.end());
  for (const auto mark : unordered) run[next[static_cast<size_t>(CombiningClass(mark))]++] = mark;
}

void OrderMarks(std::span<utf8proc_int32_t> code_points) {
  const auto is_mark = [](utf8proc_int32_t c) { return CombiningClass(c) != 0; };
  auto it = code_points.begin();
  while ((it = std::find_if(it, code_points.end(), is_mark)) != code_points.end()) {
    const auto end = std::find_if_not(it, code_points.end(), is_mark);
    OrderRun({it, end});
    it = end;
  }
}

void ComposeAndAppend(std::span<utf8proc_int32_t> code_points, std::string* out) {
  const utf8proc_ssize_t n = utf8proc_normalize_utf32(
      code_points.data(), static_cast<utf8proc_ssize_t>(code_points.size()),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  TANDEM_CHECK(n >= 0 && static_cast<size_t>(n) <= code_points.size());
  for (const auto c : code_points.first(static_cast<size_t>(n))) {
    utf8::Append(static_cast<char32_t>(c), out);
  }
}

}  // namespace

std::string NormalizeNfc(std::string_view text) {
  if (IsTriviallyNfc(text)) return std::string(text);
  std::vector<utf8proc_int32_t> decomposed = Decompose(text);
  OrderMarks(decomposed);
  std::string out;
  out.reserve(text.size());
  // utf8proc 2.8 takes U+11A7 for a final consonant and swallows it behind a Hangul syllable. It
  // composes with nothing, so the text is composed between its occurrences.
  constexpr utf8proc_int32_t kBeforeFirstFinalConsonant = 0x11A7;
  std::span<utf8proc_int32_t> rest(decomposed);
  while (!rest.empty()) {
    const auto found = std::ranges::find(rest, kBeforeFirstFinalConsonant);
    const auto length = static_cast<size_t>(found - rest.begin());
    ComposeAndAppend(rest.first(length), &out);
    if (found == rest.end()) break;
    utf8::Append(kBeforeFirstFinalConsonant, &out);
    rest = rest.subspan(length + 1);
  }
  return out;
}

}  // namespace tandem::tokenizer
