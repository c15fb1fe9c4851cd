// A vocabulary made in code, small enough to read: for tests and fuzzing of everything that needs a
// tokenizer but not a particular one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/byte_unicode.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

// Ids 0-255: the bytes. Then one token for each new prefix of a handful of words, so that words
// merge from the left; "aa", "aaaa", ... and runs of spaces; then the family's markers as control
// tokens (o200k: Phi-4-mini's; qwen2: ChatML's) and one padding row, as GGUF files have them.
inline Vocabulary FakeVocabulary(VocabularyKind kind = VocabularyKind::kO200k) {
  Vocabulary vocabulary;
  vocabulary.kind = kind;
  std::vector<std::string> known;
  const auto add = [&](std::string_view text, TokenType type) {
    vocabulary.tokens.Append(text);
    vocabulary.types.push_back(type);
    known.emplace_back(text);
  };
  const auto merge = [&](const std::string& left, const std::string& right) {
    for (const std::string& token : known) {
      if (token == left + right) return;
    }
    vocabulary.merges.Append(left + " " + right);
    add(left + right, TokenType::kNormal);
  };
  for (int byte = 0; byte < 256; ++byte) {
    const char bytes[] = {static_cast<char>(byte)};
    add(UnicodeFromBytes({bytes, 1}), TokenType::kNormal);
  }
  for (const std::string_view word : {" the", " there", "hello", " world", "user", "assistant",
                                      "\xE4\xBD\xA0", "\xF0\x9F\x98", "123", "\n\n"}) {
    std::string left = UnicodeFromBytes(word.substr(0, 1));
    for (size_t i = 1; i < word.size(); ++i) {
      const std::string right = UnicodeFromBytes(word.substr(i, 1));
      merge(left, right);
      left += right;
    }
  }
  for (const std::string_view byte : {"a", " "}) {
    std::string run = UnicodeFromBytes(byte);
    for (int i = 0; i < 4; ++i) {
      merge(run, run);
      run += run;
    }
  }
  const std::vector<std::string_view> o200k = {
      "<|endoftext|>", "<|assistant|>", "<|end|>",       "<|user|>",       "<|system|>",
      "<|tool|>",      "<|/tool|>",     "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>"};
  const std::vector<std::string_view> qwen2 = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (const auto marker : kind == VocabularyKind::kO200k ? o200k : qwen2) {
    add(marker, TokenType::kControl);
  }
  if (kind == VocabularyKind::kQwen2) {
    for (const auto tag : {"<tool_call>", "</tool_call>"}) add(tag, TokenType::kUserDefined);
  }
  for (size_t id = 0; id < known.size(); ++id) {
    if (known[id] == "<|endoftext|>") {
      vocabulary.bos = vocabulary.eos = vocabulary.pad = static_cast<int32_t>(id);
    }
  }
  add("[PAD]", TokenType::kUnused);
  return vocabulary;
}

}  // namespace tandem::tokenizer
