#include "gateway/classify/features.h"

#include <algorithm>
#include <bitset>

#include "gateway/classify/fold.h"

namespace tandem::gateway {
namespace {

// What kind of feature a hash stands for; part of the hash.
enum Seed : uint32_t {
  kWord = 0x9E3779B1,
  kPair = 0x85EBCA77,
  kGram = 0xC2B2AE3D,
  kFirst = 0x27D4EB2F,
  kLast = 0x165667B1,
  kFigure = 0xD3A2646C,
  kContent = 0x94D049BB,
};

constexpr size_t kMaxWordChars = 24;  // longer ones are keys and addresses, not words
constexpr size_t kMaxDigits = 4;      // a number's length up to here is part of its feature

// Where the instruction of a message ends and what it is about begins, in letters; an ideograph
// counts three.
constexpr int kInstruction = 100;   // so much at the beginning
constexpr int kQuestion = 80;       // and so much at the end, where it ends as a question
constexpr size_t kLastLine = 160;   // and the last line, up to this
constexpr size_t kQuotation = 400;  // what is in quotes up to this length is no instruction
constexpr size_t kAfterColon = 30;  // nor is what follows a colon, from this length on

uint32_t Mix(uint32_t hash, uint32_t value) {
  hash = (hash ^ value) * 0x01000193U;
  return hash ^ (hash >> 15);
}

// Spreads the last characters over the upper bits, which choose the bucket.
uint32_t Finish(uint32_t hash) {
  hash *= 0x2C1B3C6DU;
  hash ^= hash >> 12;
  hash *= 0x297A2D39U;
  return hash ^ (hash >> 15);
}

struct Text {
  std::array<FoldedChar, kHeadBytes + kTailBytes + 1> chars;
  std::bitset<kHeadBytes + kTailBytes + 1> content;  // chars that are no instruction
  size_t size = 0;
  size_t n_digits = 0;
  size_t n_symbols = 0;
  size_t n_newlines = 0;

  void Clear() {
    content.reset();
    size = n_digits = n_symbols = n_newlines = 0;
  }
};

// Runs of one kind; spaces make none.
struct Token {
  uint16_t begin = 0;
  uint16_t end = 0;
  CharKind kind = CharKind::kSpace;
  uint32_t hash = 0;
};

uint32_t HashRun(const Text& text, size_t begin, size_t end, uint32_t seed) {
  uint32_t hash = seed;
  for (size_t i = begin; i < end; ++i) hash = Mix(hash, text.chars[i].code_point);
  return hash;
}

void MarkContent(Text* text, size_t begin, size_t end, bool content) {
  for (size_t i = begin; i < end; ++i) text->content[i] = content;
}

// Walks from `at` by `step` until `budget` letters are passed.
size_t Pass(const Text& text, size_t at, int step, int budget) {
  while (budget > 0 && at > 0 && at < text.size) {
    budget -= text.chars[at].kind == CharKind::kIdeograph ? 3 : 1;
    at += step;
  }
  return at;
}

// Tells apart what to do and what to do it with: "Summarise this: ...", "What does "..." mean?".
void FindContent(Text* text) {
  const auto at = [&](size_t i) { return i < text->size ? text->chars[i].code_point : U' '; };
  MarkContent(text, Pass(*text, 1, 1, kInstruction), text->size, true);
  size_t last = text->size;
  while (last > 0 && text->chars[last - 1].kind <= CharKind::kNewline) --last;
  if (last > 1 && at(last - 1) == U'?') {
    MarkContent(text, Pass(*text, last - 1, -1, kQuestion), last, false);
  }
  for (size_t i = 0; i + kAfterColon < text->size; ++i) {
    if (at(i) == U':' && text->chars[i + 1].kind != CharKind::kDigit && at(i + 1) != U'/') {
      MarkContent(text, i + 1, text->size, true);
      break;
    }
  }
  for (size_t i = 0; i < text->size; ++i) {
    if (at(i) != U'"') continue;
    size_t end = i + 1;
    while (end < text->size && end - i < kQuotation && at(end) != U'"') ++end;
    if (at(end) == U'"') MarkContent(text, i + 1, end, true);
    i = end;
  }
  for (size_t begin = last; begin > 0 && last - begin < kLastLine; --begin) {
    if (text->chars[begin - 1].kind == CharKind::kNewline) {
      MarkContent(text, begin, last, false);
      break;
    }
  }
}

// The head and the tail of a long text, with a line between them.
void ReadEdges(std::string_view prompt, Text* text) {
  const std::span<FoldedChar> out(text->chars);
  if (prompt.size() <= kHeadBytes + kTailBytes) {
    text->size = Fold(prompt, out);
  } else {
    text->size = Fold(prompt.substr(0, kHeadBytes), out);
    out[text->size++] = {'\n', CharKind::kNewline};
    text->size += Fold(prompt.substr(prompt.size() - kTailBytes), out.subspan(text->size));
  }
  for (size_t i = 0; i < text->size; ++i) {
    switch (text->chars[i].kind) {
      case CharKind::kSpace:
        break;
      case CharKind::kNewline:
        ++text->n_newlines;
        break;
      case CharKind::kDigit:
        ++text->n_digits;
        break;
      case CharKind::kSymbol:
        ++text->n_symbols;
        break;
      default:
        break;
    }
  }
  FindContent(text);
}

// The run that begins at `begin`: a word, a number, or one symbol however often it is repeated.
Token NextToken(const Text& text, size_t begin) {
  const FoldedChar first = text.chars[begin];
  size_t end = begin + 1;
  while (end < text.size && text.chars[end].kind == first.kind &&
         (first.kind != CharKind::kSymbol || text.chars[end].code_point == first.code_point)) {
    ++end;
  }
  size_t hashed = end;
  if (first.kind == CharKind::kDigit) hashed = std::min(end, begin + kMaxDigits);
  if (first.kind == CharKind::kSymbol || first.kind == CharKind::kNewline) hashed = begin + 1;
  if (first.kind == CharKind::kLetter) hashed = std::min(end, begin + kMaxWordChars);
  return {static_cast<uint16_t>(begin), static_cast<uint16_t>(end), first.kind,
          HashRun(text, begin, hashed, kWord)};
}

void AddGrams(const Text& text, size_t begin, size_t end, size_t from, size_t to,
              FeatureSet* features) {
  for (size_t i = begin; i < end; ++i) {
    uint32_t hash = kGram;
    for (size_t n = 1; n <= to && i + n <= end; ++n) {
      hash = Mix(hash, text.chars[i + n - 1].code_point);
      if (n >= from) features->Add(Finish(hash));
    }
  }
}

// The beginnings of a word: what its inflections share.
void AddPrefixes(const Text& text, const Token& token, FeatureSet* features) {
  const size_t length = std::min<size_t>(token.end - token.begin, kMaxWordChars);
  uint32_t hash = kGram;
  for (size_t n = 1; n <= 6 && n < length; ++n) {
    hash = Mix(hash, text.chars[token.begin + n - 1].code_point);
    if (n >= 4) features->Add(Finish(hash));
  }
}

void AddToken(const Text& text, const Token& token, FeatureSet* features) {
  switch (token.kind) {
    case CharKind::kIdeograph:
      AddGrams(text, token.begin, token.end, 1, 2, features);
      return;
    case CharKind::kUnspaced:
      AddGrams(text, token.begin, token.end, 3, 5, features);
      return;
    case CharKind::kLetter:
      AddPrefixes(text, token, features);
      break;
    default:
      break;
  }
  features->Add(Finish(token.hash));
}

// Content says what kind of text there is, not what to do with it: its words are features of
// their own, and their neighbours are none.
void AddContentToken(const Text& text, const Token& token, FeatureSet* features) {
  const size_t unit = token.kind == CharKind::kIdeograph  ? 2
                      : token.kind == CharKind::kUnspaced ? 4
                                                          : 0;
  if (unit == 0) {
    features->Add(Finish(Mix(token.hash, kContent)));
    return;
  }
  for (size_t i = token.begin; i + unit <= token.end; ++i) {
    features->Add(Finish(HashRun(text, i, i + unit, kContent)));
  }
}

// How a prompt begins says most: its first words count once more.
void AddOpening(const Text& text, std::span<const Token> tokens, FeatureSet* features) {
  constexpr size_t kWords = 4;
  constexpr size_t kChars = 12;
  for (const Token& token : tokens.first(std::min(tokens.size(), kWords))) {
    const bool ideographs = token.kind == CharKind::kIdeograph;
    if (!ideographs && token.kind != CharKind::kUnspaced) {
      features->Add(Finish(Mix(token.hash, kFirst)));
      continue;
    }
    const size_t unit = ideographs ? 2 : 4;
    const size_t end = std::min<size_t>(token.end, token.begin + kChars);
    for (size_t i = token.begin; i + unit <= end; ++i) {
      features->Add(Finish(HashRun(text, i, i + unit, kFirst)));
    }
    return;  // a run is as long as several words
  }
}

void AddClosing(const Text& text, std::span<const Token> tokens, FeatureSet* features) {
  if (tokens.empty()) return;
  const Token& last = tokens.back();
  features->Add(Finish(Mix(text.chars[last.end - 1].code_point, kLast)));
}

uint32_t Octave(size_t value) {
  uint32_t octave = 0;
  for (; value > 0; value /= 2) ++octave;
  return octave;
}

void AddFigures(const Text& text, size_t n_tokens, FeatureSet* features) {
  const auto add = [&](uint32_t which, uint32_t value) {
    features->Add(Finish(Mix(Mix(kFigure, which), value)));
  };
  const auto share = [&](size_t n) {
    return static_cast<uint32_t>((20 * n) / std::max<size_t>(text.size, 1));
  };
  add(0, Octave(n_tokens));
  add(1, Octave(text.n_newlines));
  add(2, std::min<uint32_t>(share(text.n_digits), 4));
  add(3, std::min<uint32_t>(share(text.n_symbols), 4));
}

}  // namespace

void ExtractFeatures(std::string_view prompt, FeatureSet* features) {
  // For each thread, used again: to clear 50 KiB for each prompt would cost more than to read it.
  thread_local Text text;
  thread_local std::array<Token, std::tuple_size_v<decltype(text.chars)>> storage;
  text.Clear();
  ReadEdges(prompt, &text);
  size_t n_tokens = 0;
  for (size_t i = 0; i < text.size;) {
    if (text.chars[i].kind == CharKind::kSpace) {
      ++i;
      continue;
    }
    const Token token = NextToken(text, i);
    storage[n_tokens++] = token;
    i = token.end;
  }
  const std::span<const Token> tokens(storage.data(), n_tokens);

  AddOpening(text, tokens, features);
  AddClosing(text, tokens, features);
  AddFigures(text, n_tokens, features);
  for (size_t i = 0; i < n_tokens; ++i) {
    if (text.content[tokens[i].begin]) continue;
    AddToken(text, tokens[i], features);
    if (i > 0) features->Add(Finish(Mix(Mix(kPair, tokens[i - 1].hash), tokens[i].hash)));
  }
  features->EndInstruction();
  for (const Token& token : tokens) {
    if (text.content[token.begin]) AddContentToken(text, token, features);
  }
}

}  // namespace tandem::gateway
