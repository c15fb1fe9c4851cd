#include "app/terminal_chat.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

namespace tandem::app {
namespace {

const std::filesystem::path kDemo =
    std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo/tandem-demo-q4_0.gguf";

class TerminalChatTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = TerminalChat::Open({.model = kDemo,
                                      .engine = {.n_threads = 1, .context_tokens = 256},
                                      .sampling = {.temperature = 0}});
    ASSERT_TRUE(opened) << opened.error().message;
    chat_ = std::move(*opened);
  }
  ChatTurn Ask(std::string_view text) {
    std::string streamed;
    auto turn = chat_->Ask(text, [&](std::string_view piece) { streamed += piece; });
    EXPECT_TRUE(turn) << turn.error().message;
    EXPECT_EQ(streamed, turn->text);
    return *turn;
  }
  std::unique_ptr<TerminalChat> chat_;
};

TEST_F(TerminalChatTest, LaterTurnsSeeEarlierOnesUntilTheyAreCleared) {
  const ChatTurn first = Ask("Hello");
  EXPECT_FALSE(first.text.empty());
  const ChatTurn second = Ask("Hello");
  EXPECT_GT(second.finished.usage.prompt_tokens, first.finished.usage.prompt_tokens);
  chat_->Clear();
  EXPECT_EQ(Ask("Hello").finished.usage.prompt_tokens, first.finished.usage.prompt_tokens);
}

TEST_F(TerminalChatTest, AQuestionThatDoesNotFitLeavesTheConversationAsItWas) {
  const ChatTurn first = Ask("Hello");
  const auto refused = chat_->Ask(std::string(5000, 'x'), [](std::string_view) {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  chat_->Clear();
  EXPECT_EQ(Ask("Hello").text, first.text);
}

TEST_F(TerminalChatTest, InterruptingEndsTheAnswerAndKeepsTheChatUsable) {
  const auto turn = chat_->Ask("Hello", [&](std::string_view) { chat_->Interrupt(); });
  ASSERT_TRUE(turn) << turn.error().message;
  chat_->Interrupt();  // nothing runs
  EXPECT_FALSE(Ask("Hello").text.empty());
}

}  // namespace
}  // namespace tandem::app
