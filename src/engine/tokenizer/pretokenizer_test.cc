#include "engine/tokenizer/pretokenizer.h"

#include <array>
#include <memory>
#include <random>
#include <string>
#include <vector>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>

#include "base/utf8.h"
#include "engine/tokenizer/unicode_class.h"

namespace tandem::tokenizer {
namespace {

// The published patterns, with \s and \S spelled out as White_Space: PCRE2's own differ.
#define WHITE_SPACE                                                                           \
  "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
  "\\x{205f}\\x{3000}"
#define O200K_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define PREFIX "[^\\r\\n\\p{L}\\p{N}]?"
#define TAIL \
  "|[" WHITE_SPACE "]*[\\r\\n]+|[" WHITE_SPACE "]+(?![^" WHITE_SPACE "])|[" WHITE_SPACE "]+"

constexpr const char* kO200kPattern = PREFIX O200K_UPPER
    "*" O200K_LOWER "+" CONTRACTION "?|" PREFIX O200K_UPPER "+" O200K_LOWER "*" CONTRACTION
    "?|\\p{N}{1,3}| ?[^" WHITE_SPACE "\\p{L}\\p{N}]+[\\r\\n/]*" TAIL;
constexpr const char* kQwen2Pattern =
    CONTRACTION "|" PREFIX "\\p{L}+|\\p{N}| ?[^" WHITE_SPACE "\\p{L}\\p{N}]+[\\r\\n]*" TAIL;

// PCRE2 running a pattern: the oracle.
class Oracle {
 public:
  explicit Oracle(VocabularyKind kind)
      : Oracle(kind == VocabularyKind::kO200k ? kO200kPattern : kQwen2Pattern) {}
  explicit Oracle(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    EXPECT_NE(code_, nullptr) << "error " << error << " at " << offset;
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  }

  std::vector<std::string_view> Pieces(std::string_view text) {
    std::vector<std::string_view> pieces;
    for (size_t at = 0; at < text.size();) {
      const int rc =
          pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                      PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, match_.get(), nullptr);
      if (rc < 0) {
        ADD_FAILURE() << "no match at " << at << " (" << rc << ")";
        break;
      }
      const size_t end = pcre2_get_ovector_pointer(match_.get())[1];
      pieces.push_back(text.substr(at, end - at));
      at = end;
    }
    return pieces;
  }

  bool Matches(char32_t code_point) {
    std::string text;
    utf8::Append(code_point, &text);
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                       PCRE2_ANCHORED, match_.get(), nullptr) > 0;
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> match_;
};

constexpr std::array<VocabularyKind, 2> kKinds = {VocabularyKind::kO200k, VocabularyKind::kQwen2};

using Pieces = std::vector<std::string_view>;

// One code point for each role that the patterns tell apart, and the letters of the contractions.
constexpr std::array<const char*, 20> kAlphabet = {"a",
                                                   "A",
                                                   "s",
                                                   "T",
                                                   "l",
                                                   "'",
                                                   " ",
                                                   "\t",
                                                   "\n",
                                                   "\r",
                                                   "/",
                                                   ".",
                                                   "1",
                                                   "\u00B2",
                                                   "\u01C5" /* Lt */,
                                                   "\u02B0" /* Lm */,
                                                   "\u0E01" /* Lo */,
                                                   "\u0301" /* M */,
                                                   "\u3000" /* Zs */,
                                                   "\u017F" /* folds to s */};

TEST(PretokenizerTest, EveryShortTextOverEveryRoleIsCutAsThePatternCutsIt) {
  for (const VocabularyKind kind : kKinds) {
    Oracle oracle(kind);
    size_t n_texts = 0;
    for (size_t length = 1; length <= 4; ++length) {
      std::vector<size_t> digits(length, 0);
      for (bool more = true; more;) {
        std::string text;
        for (const size_t digit : digits) text += kAlphabet[digit];
        ASSERT_EQ(Pretokenize(kind, text), oracle.Pieces(text)) << text;
        ++n_texts;
        more = false;
        for (size_t& digit : digits) {
          if (++digit < kAlphabet.size()) {
            more = true;
            break;
          }
          digit = 0;
        }
      }
    }
    EXPECT_EQ(n_texts, 20u + 400 + 8000 + 160000);
  }
}

TEST(PretokenizerTest, LongRandomTextsAreCutAsThePatternCutsThem) {
  std::mt19937 random(1);
  for (const VocabularyKind kind : kKinds) {
    Oracle oracle(kind);
    for (int round = 0; round < 3000; ++round) {
      // A few roles at a time, so that long runs of one class happen.
      std::array<size_t, 4> roles{};
      for (size_t& role : roles) role = random() % kAlphabet.size();
      std::string text;
      for (int i = 0; i < 60; ++i) text += kAlphabet[roles[random() % roles.size()]];
      ASSERT_EQ(Pretokenize(kind, text), oracle.Pieces(text)) << text;
    }
  }
}

// Every code point that both Unicode versions know (PCRE2's tables are older than utf8proc's).
TEST(PretokenizerTest, EveryAssignedCodePointIsInPcre2sClass) {
  Oracle assigned("\\P{Cn}"), upper(O200K_UPPER), lower(O200K_LOWER), letter("\\p{L}"),
      number("\\p{N}"), white_space("[" WHITE_SPACE "]");
  size_t n_checked = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if ((c >= 0xD800 && c <= 0xDFFF) || !assigned.Matches(c)) continue;
    // Half of the space is private use and of one class: a sample will do.
    if (c >= 0xF0000 && c % 4096 != 0) continue;
    const uint8_t classes = ClassOf(c);
    ASSERT_EQ((classes & kUpperSet) != 0, upper.Matches(c)) << std::hex << uint32_t{c};
    ASSERT_EQ((classes & kLowerSet) != 0, lower.Matches(c)) << std::hex << uint32_t{c};
    ASSERT_EQ((classes & kLetter) != 0, letter.Matches(c)) << std::hex << uint32_t{c};
    ASSERT_EQ((classes & kNumber) != 0, number.Matches(c)) << std::hex << uint32_t{c};
    ASSERT_EQ((classes & kWhiteSpace) != 0, white_space.Matches(c)) << std::hex << uint32_t{c};
    ASSERT_EQ((classes & kLineBreak) != 0, c == '\r' || c == '\n') << std::hex << uint32_t{c};
    ++n_checked;
  }
  EXPECT_GT(n_checked, 140000u);
}

TEST(PretokenizerTest, WhiteSpaceIsTheUnicodePropertyAndNothingElse) {
  for (const char32_t c : {0x200B, 0xFEFF, 0x180E, 0x1C, 0x1F}) EXPECT_FALSE(IsWhiteSpace(c));
  for (const char32_t c : {0x85, 0xA0, 0x2007, 0x202F, 0x3000}) EXPECT_TRUE(IsWhiteSpace(c));
}

TEST(PretokenizerTest, FamiliesDifferInWordsNumbersAndContractions) {
  constexpr std::string_view kText = "HELLOworld don't 12345 x/\n/";
  EXPECT_EQ(Pretokenize(VocabularyKind::kO200k, kText),
            (Pieces{"HELLOworld", " don't", " ", "123", "45", " x", "/\n/"}));
  EXPECT_EQ(Pretokenize(VocabularyKind::kQwen2, kText),
            (Pieces{"HELLOworld", " don", "'t", " ", "1", "2", "3", "4", "5", " x", "/\n", "/"}));
}

TEST(PretokenizerTest, RunOfSpacesLeavesItsLastToTheWord) {
  for (const VocabularyKind kind : kKinds) {
    EXPECT_EQ(Pretokenize(kind, "a   b"), (Pieces{"a", "  ", " b"}));
    EXPECT_EQ(Pretokenize(kind, "a \n\n  b  "), (Pieces{"a", " \n\n", " ", " b", "  "}));
  }
}

TEST(PretokenizerTest, CodePointThatMayBePrefixOrWordIsTriedAsBoth) {
  EXPECT_EQ(Pretokenize(VocabularyKind::kO200k, "\u0301ABC"), (Pieces{"\u0301", "ABC"}));
  EXPECT_EQ(Pretokenize(VocabularyKind::kO200k, "\u0301abc"), (Pieces{"\u0301abc"}));
  EXPECT_EQ(Pretokenize(VocabularyKind::kO200k, "\u0E01AB"), (Pieces{"\u0E01", "AB"}));
}

}  // namespace
}  // namespace tandem::tokenizer
