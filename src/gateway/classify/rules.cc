#include "gateway/classify/rules.h"

#include <algorithm>
#include <array>
#include <span>

#include "gateway/classify/features.h"
#include "gateway/classify/fold.h"

namespace tandem::gateway {
namespace {

using Words = std::span<const std::u32string_view>;

// All lists are folded as fold.h does: lower case, no accents.

// May stand before the verb of a request.
constexpr std::u32string_view kPolite[] = {
    U"please", U"can",     U"could",    U"would",  U"you",   U"help",  U"me",   U"i",
    U"need",   U"want",    U"to",       U"hi",     U"hello", U"hey",   U"just", U"kindly",
    U"puedes", U"podrias", U"puede",    U"podria", U"por",   U"favor", U"hola", U"quiero",
    U"kannst", U"konnen",  U"konntest", U"du",     U"sie",   U"bitte", U"mir",  U"hallo",
    U"tolong", U"bisa",    U"bisakah",  U"kamu",   U"anda",  U"mohon", U"coba", U"hai",
    U"bantu",  U"saya",    U"hay",      U"vui",    U"long",  U"lam",   U"on",   U"giup",
    U"toi",    U"minh",    U"ban",      U"co",     U"the",   U"xin",   U"chao", U"em"};

// Verbs of translating, as words begin.
constexpr std::u32string_view kTranslate[] = {U"translat",  U"traduc",   U"traduz", U"ubersetz",
                                              U"uebersetz", U"terjemah", U"dich",   U"chuyen ngu",
                                              U"แปล",       U"翻译",     U"翻譯",   U"译成"};

// Into what: the preposition with the beginning of the language's name.
constexpr std::u32string_view kLanguageNames[] = {
    U"english",   U"spanish",   U"german",    U"indonesian", U"vietnamese", U"thai",
    U"chinese",   U"french",    U"italian",   U"portugu",    U"japan",      U"korean",
    U"russian",   U"arabic",    U"dutch",     U"hindi",      U"malay",      U"mandarin",
    U"polish",    U"turkish",   U"ingles",    U"espanol",    U"castellano", U"aleman",
    U"indones",   U"vietnamit", U"tailandes", U"chino",      U"frances",    U"japones",
    U"coreano",   U"ruso",      U"arabe",     U"englisch",   U"spanisch",   U"deutsch",
    U"vietnames", U"thailand",  U"chines",    U"franzosi",   U"italien",    U"koreani",
    U"russisch",  U"arabisch",  U"niederland"};
constexpr std::u32string_view kInto[] = {U"to",  U"into", U"in",  U"al",   U"a",
                                         U"ins", U"auf",  U"von", U"from", U"del"};
// Already certain with what they stand before or after.
constexpr std::u32string_view kIntoLanguage[] = {
    U"ke bahasa",   U"ke dalam bahasa", U"dalam bahasa", U"sang tieng", U"ra tieng", U"qua tieng",
    U"thanh tieng", U"เป็นภาษา",         U"เป็นไทย",       U"เป็นอังกฤษ",   U"译成英",   U"译成中",
    U"译成德",      U"译成西",          U"译成泰",       U"译成越",     U"译成印",   U"译成法",
    U"译成日",      U"译成韩",          U"译为英",       U"译为中",     U"译为德",   U"译为西",
    U"译为泰",      U"译为越",          U"译为印"};

// A program is ported, not translated.
constexpr std::u32string_view kProgramWords[] = {
    U"function", U"script",  U"code",     U"program",  U"class",  U"method", U"query", U"funcion",
    U"codigo",   U"clase",   U"consulta", U"funktion", U"klasse", U"fungsi", U"kode",  U"ham ",
    U"ma nguon", U"doan ma", U"ฟังก์ชัน",    U"โค้ด",      U"代码",   U"函数",   U"脚本"};

constexpr size_t kWindow = 160;  // characters: an instruction of two sentences

struct FoldedText {
  std::array<char32_t, kWindow> storage;
  size_t size = 0;
  std::u32string_view view() const { return {storage.data(), size}; }
};

FoldedText FoldForRules(std::string_view text) {
  std::array<FoldedChar, kWindow> folded;
  FoldedText result;
  const size_t n = Fold(text, folded);
  for (size_t i = 0; i < n; ++i) {
    result.storage[result.size++] =
        folded[i].kind == CharKind::kNewline ? U' ' : folded[i].code_point;
  }
  return result;
}

bool IsLatin(char32_t c) { return c >= U'a' && c <= U'z'; }

// Where `word` begins in `text`, for Latin words only at the beginning of one.
size_t FindWord(std::u32string_view text, std::u32string_view word, size_t from = 0) {
  for (size_t at = text.find(word, from); at != text.npos; at = text.find(word, at + 1)) {
    if (at == 0 || !IsLatin(word.front()) || !IsLatin(text[at - 1])) return at;
  }
  return text.npos;
}

bool HasAny(std::u32string_view text, Words words) {
  return std::ranges::any_of(
      words, [&](std::u32string_view word) { return FindWord(text, word) != text.npos; });
}

bool OnlyPoliteWords(std::u32string_view text) {
  constexpr size_t kUnspacedPrefix = 14;  // "please help me to" in Thai
  while (!text.empty()) {
    if (!IsLatin(text.front())) {
      if (text.front() > 127 && text.size() > kUnspacedPrefix) return false;
      text.remove_prefix(1);
      continue;
    }
    const auto end = std::ranges::find_if_not(text, IsLatin);
    const std::u32string_view word = text.substr(0, end - text.begin());
    if (std::ranges::find(kPolite, word) == std::end(kPolite)) return false;
    text.remove_prefix(word.size());
  }
  return true;
}

// "to german", "ins Deutsche", "al ingles".
bool NamesTargetLanguage(std::u32string_view text) {
  if (HasAny(text, kIntoLanguage)) return true;
  for (const std::u32string_view into : kInto) {
    for (size_t at = FindWord(text, into); at != text.npos; at = FindWord(text, into, at + 1)) {
      std::u32string_view rest = text.substr(at + into.size());
      if (rest.empty() || rest.front() != U' ') continue;
      rest.remove_prefix(1);
      const auto begins = [&](std::u32string_view name) { return rest.starts_with(name); };
      if (std::ranges::any_of(kLanguageNames, begins)) return true;
    }
  }
  return false;
}

bool AsksForTranslation(std::string_view prompt) {
  const FoldedText folded = FoldForRules(prompt);
  const std::u32string_view text = folded.view();
  const bool asks = std::ranges::any_of(kTranslate, [&](std::u32string_view verb) {
    const size_t at = FindWord(text, verb);
    return at != text.npos && OnlyPoliteWords(text.substr(0, at));
  });
  return asks && NamesTargetLanguage(text) && !HasAny(text, kProgramWords);
}

// ---- formulas -----------------------------------------------------------------------------------

// A sum without words. Dates, telephone numbers and versions are none: a sign that they hold too
// counts only between spaces.
bool IsArithmetic(std::string_view prompt) {
  constexpr size_t kLongestSum = 200;
  if (prompt.size() > kLongestSum) return false;
  std::array<FoldedChar, kLongestSum> folded;
  const size_t n = Fold(prompt, folded);
  constexpr std::u32string_view kSigns = U"+*^=%\u00D7\u00F7\u221A\u2212";
  constexpr std::u32string_view kOthers = U"().,?!xyn";
  size_t n_digits = 0;
  size_t n_signs = 0;
  for (size_t i = 0; i < n; ++i) {
    const char32_t c = folded[i].code_point;
    if (folded[i].kind == CharKind::kSpace || folded[i].kind == CharKind::kNewline) continue;
    const bool spaced = i > 0 && i + 1 < n && folded[i - 1].kind == CharKind::kSpace &&
                        folded[i + 1].kind == CharKind::kSpace;
    if (folded[i].kind == CharKind::kDigit) {
      ++n_digits;
    } else if (kSigns.find(c) != kSigns.npos) {
      ++n_signs;
    } else if (c == U'-' || c == U'/') {
      n_signs += spaced ? 1 : 0;
    } else if (kOthers.find(c) == kOthers.npos) {
      return false;
    }
  }
  // "+49 30 1234567" has a sign and digits too, so a lone plus at the beginning is none.
  if (n > 0 && folded[0].code_point == U'+') --n_signs;
  return n_digits >= 2 && n_signs >= 1;
}

bool HoldsLatex(std::string_view text) {
  constexpr std::string_view kMarks[] = {
      "\\frac{", "\\dfrac{", "\\sqrt{",   "\\int_",         "\\int ",           "\\sum_",
      "\\lim_",  "\\binom{", "\\mathbb{", "\\begin{align",  "\\begin{equation", "\\begin{pmatrix",
      "\\leq ",  "\\geq ",   "\\prod_",   "\\begin{bmatrix"};
  return std::ranges::any_of(kMarks, [&](std::string_view mark) { return text.contains(mark); });
}

// ---- code ---------------------------------------------------------------------------------------

bool LooksLikeCode(std::string_view text) {
  constexpr std::string_view kMarks[] = {
      ");",    "() {",   "):\n",    "def ",      "return ", "#include", "import ",
      "=> ",   "const ", "public ", "SELECT ",   "select ", "func ",    "fn ",
      "</",    "let ",   "$ ",      "var ",      "print(",  "console.", "printf",
      "echo ", "error",  "Error",   "Exception", "; ",      ";\n",      "function "};
  return std::ranges::any_of(kMarks, [&](std::string_view mark) { return text.contains(mark); });
}

bool HoldsFencedCode(std::string_view text) {
  const size_t open = text.find("```");
  if (open == text.npos) return false;
  const std::string_view rest = text.substr(open + 3);
  return LooksLikeCode(rest.substr(0, rest.find("```")));
}

bool HoldsStackTrace(std::string_view text) {
  constexpr std::string_view kMarks[] = {"Traceback (most recent call last)",
                                         "Segmentation fault (core dumped)",
                                         "error: expected ",
                                         "undefined reference to",
                                         "Exception in thread \"",
                                         "NullPointerException",
                                         "error TS",
                                         "SyntaxError: ",
                                         "TypeError: ",
                                         "panic: runtime error",
                                         "error[E0",
                                         "at Object.<anonymous>",
                                         "#include <"};
  return std::ranges::any_of(kMarks, [&](std::string_view mark) { return text.contains(mark); });
}

std::optional<RuleMatch> MatchText(std::string_view text) {
  if (HoldsLatex(text)) return RuleMatch{TaskClass::kMathReasoning, "latex", true};
  if (HoldsFencedCode(text)) return RuleMatch{TaskClass::kCodeGeneration, "code_fence", true};
  if (HoldsStackTrace(text)) return RuleMatch{TaskClass::kCodeGeneration, "stack_trace", true};
  return std::nullopt;
}

}  // namespace

std::optional<RuleMatch> MatchRule(std::string_view prompt) {
  if (prompt.find_first_not_of(" \t\r\n") == prompt.npos) {
    return RuleMatch{TaskClass::kGeneralConversation, "empty"};
  }
  if (IsArithmetic(prompt)) return RuleMatch{TaskClass::kMathReasoning, "arithmetic"};
  if (AsksForTranslation(prompt)) return RuleMatch{TaskClass::kTranslation, "translation"};
  return MatchText(prompt.substr(0, kHeadBytes));
}

}  // namespace tandem::gateway
