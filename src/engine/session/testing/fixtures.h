// What the tests of this room share: a byte-level tokenizer, answers that a fake executor gives,
// and a sink that writes down what it hears.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "engine/executor/fake_executor.h"
#include "engine/session/session.h"
#include "engine/session/testing/recorder.h"
#include "engine/tokenizer/byte_unicode.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::session::testing {

// Ids 0 to 255 are bytes. Rows of logits go beyond the tokenizer's vocabulary, as in real models.
inline constexpr int32_t kEndOfTurn = 256;  // "<|end|>"
inline constexpr int32_t kAnswer = 257;     // a control token: the answer starts here
inline constexpr int32_t kUnusedId = 258;
inline constexpr int32_t kWord = 259;  // " world"
inline constexpr int32_t kTokens = 260;
inline constexpr int32_t kVocabSize = 264;

inline std::shared_ptr<const tokenizer::Tokenizer> MakeTokenizer() {
  tokenizer::Vocabulary vocabulary;
  vocabulary.kind = tokenizer::VocabularyKind::kQwen2;
  const auto add = [&](std::string_view spelling, tokenizer::TokenType type) {
    vocabulary.tokens.Append(spelling);
    vocabulary.types.push_back(type);
  };
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    add(tokenizer::UnicodeFromBytes({&c, 1}), tokenizer::TokenType::kNormal);
  }
  add("<|end|>", tokenizer::TokenType::kControl);
  add("<|answer|>", tokenizer::TokenType::kControl);
  add("[PAD258]", tokenizer::TokenType::kUnused);
  add(tokenizer::UnicodeFromBytes(" world"), tokenizer::TokenType::kNormal);
  vocabulary.eos = kEndOfTurn;
  auto result = tokenizer::Tokenizer::Create(vocabulary);
  EXPECT_TRUE(result) << result.error().message;
  return result.value_or(nullptr);
}

inline SessionModel MakeModel(int32_t context_tokens) {
  const std::vector<int32_t> unused = {kUnusedId};
  return {.tokenizer = MakeTokenizer(),
          .mask = std::make_shared<const sampling::TokenMask>(kTokens, unused),
          .vocab_size = kVocabSize,
          .context_tokens = context_tokens};
}

inline std::vector<int32_t> Bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

// A prompt that Says() below answers.
inline std::vector<int32_t> Prompt(std::string_view text) {
  std::vector<int32_t> ids = Bytes(text);
  ids.push_back(kAnswer);
  return ids;
}

// A model that says the same after every prompt of Prompt(): these tokens, then the end of the
// turn.
inline executor::FakeExecutor::NextToken Says(std::vector<int32_t> answer) {
  return [answer = std::move(answer)](std::span<const int32_t> sequence) {
    size_t after = 0;
    while (after < sequence.size() && sequence[sequence.size() - 1 - after] != kAnswer) ++after;
    return after < answer.size() ? answer[after] : kEndOfTurn;
  };
}
inline executor::FakeExecutor::NextToken Says(std::string_view answer) {
  return Says(Bytes(answer));
}

// A model whose next letter depends on every token before, so that one wrong key or value shows.
inline int32_t HashedLetter(std::span<const int32_t> sequence) {
  uint64_t hash = 14695981039346656037U;
  for (int32_t id : sequence) hash = (hash ^ static_cast<uint64_t>(id)) * 1099511628211U;
  return static_cast<int32_t>('a' + (hash >> 32) % 26);
}

}  // namespace tandem::session::testing
