#include "engine/tokenizer/stream_decoder.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "engine/tokenizer/fake_vocabulary.h"

namespace tandem::tokenizer {
namespace {

std::shared_ptr<const Tokenizer> Fake() { return Tokenizer::Create(FakeVocabulary()).value(); }

// Feeds `bytes` cut behind byte i where bit i of `cuts` is set; every part that comes out must be
// whole code points.
std::string DecodeInParts(StreamDecoder* decoder, std::string_view bytes, uint64_t cuts) {
  std::string text;
  const auto take = [&](const std::string& part) {
    EXPECT_TRUE(utf8::IsValid(part));
    text += part;
  };
  size_t begin = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (((cuts >> i) & 1) == 0 && i + 1 < bytes.size()) continue;
    take(decoder->PushBytes(bytes.substr(begin, i + 1 - begin)));
    begin = i + 1;
  }
  take(decoder->Flush());
  return text;
}

TEST(StreamDecoderTest, EverySplitOfTroublesomeBytesGivesTheSanitizedText) {
  const auto tokenizer = Fake();
  StreamDecoder decoder(*tokenizer);
  // Leads of all lengths, continuations on both sides of the special limits, and plain bytes.
  constexpr std::string_view kBytes = "a\xC3\xA9\xE0\xA0\x80\xED\xF0\x90\xF4\x8F\xFF";
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += kBytes[random() % kBytes.size()];
    const std::string expected = utf8::Sanitize(bytes);
    for (uint64_t cuts = 0; cuts < 128; ++cuts) {
      ASSERT_EQ(DecodeInParts(&decoder, bytes, cuts), expected) << testing::PrintToString(bytes);
    }
  }
}

TEST(StreamDecoderTest, EverySplitOfValidTextGivesTheText) {
  const auto tokenizer = Fake();
  StreamDecoder decoder(*tokenizer);
  for (const std::string_view text :
       {"caf\u00E9 \u4F60\u597D", "\U0001F600\U0001F468\u200D", "ascii only"}) {
    for (uint64_t cuts = 0; cuts < uint64_t{1} << (text.size() - 1); ++cuts) {
      ASSERT_EQ(DecodeInParts(&decoder, text, cuts), text);
    }
  }
}

TEST(StreamDecoderTest, RandomBytesComeBackThroughTokens) {
  const auto tokenizer = Fake();
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    std::string bytes;
    for (int i = 0; i < 50; ++i) bytes += static_cast<char>(random());
    StreamDecoder merged(*tokenizer), one_byte_tokens(*tokenizer);
    std::string from_merged, from_bytes;
    for (const int32_t id : tokenizer->Encode(bytes, SpecialTokens::kIgnore)) {
      from_merged += merged.Push(id);
    }
    for (const char byte : bytes) from_bytes += one_byte_tokens.Push(static_cast<uint8_t>(byte));
    EXPECT_EQ(from_merged + merged.Flush(), utf8::Sanitize(bytes));
    EXPECT_EQ(from_bytes + one_byte_tokens.Flush(), utf8::Sanitize(bytes));
  }
}

TEST(StreamDecoderTest, CodePointAppearsWithItsLastByte) {
  const auto tokenizer = Fake();
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.PushBytes("\xF0"), "");
  EXPECT_EQ(decoder.PushBytes("\x9F\x98"), "");
  EXPECT_EQ(decoder.PushBytes("\x80!"), "\U0001F600!");
}

TEST(StreamDecoderTest, MalformedByteIsReplacedAtOnce) {
  const auto tokenizer = Fake();
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.PushBytes("\xFF"), "\uFFFD");
  EXPECT_EQ(decoder.PushBytes("\xE4"), "");
  EXPECT_EQ(decoder.PushBytes("a"), "\uFFFDa");
}

TEST(StreamDecoderTest, FlushReplacesAnUnfinishedCodePointOnceAndStartsAnew) {
  const auto tokenizer = Fake();
  StreamDecoder decoder(*tokenizer);
  decoder.PushBytes("\xF0\x9F\x98");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(StreamDecoderTest, ControlTokensAreHiddenOrShown) {
  const auto tokenizer = Fake();
  const int32_t end = tokenizer->FindSpecial("<|end|>").value();
  StreamDecoder hiding(*tokenizer), showing(*tokenizer, ControlTokens::kShow);
  EXPECT_EQ(hiding.Push(end), "");
  EXPECT_EQ(showing.Push(end), "<|end|>");
}

TEST(StreamDecoderTest, IdsOutOfRangeAndPaddingGiveNothing) {
  const auto tokenizer = Fake();
  StreamDecoder decoder(*tokenizer, ControlTokens::kShow);
  for (const int32_t id : {-1, tokenizer->n_tokens(), INT32_MAX, tokenizer->n_tokens() - 1}) {
    EXPECT_EQ(decoder.Push(id), "") << id;
  }
}

}  // namespace
}  // namespace tandem::tokenizer
