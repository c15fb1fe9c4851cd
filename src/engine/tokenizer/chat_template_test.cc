#include "engine/tokenizer/chat_template.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::tokenizer {
namespace {

// The published templates, as facts to recognise.
constexpr std::string_view kPhi4MiniJinja =
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
    "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + "
    "'<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + message['role'] "
    "+ '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt "
    "%}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}";

std::string Prompt(const ChatTemplate& chat, const std::vector<ChatMessage>& messages,
                   std::string_view tools = "", bool add_generation_prompt = true) {
  const auto segments = chat.Render(messages, tools, add_generation_prompt);
  return segments ? JoinSegments(*segments) : "error: " + segments.error().message;
}

ChatTemplate Phi() { return ChatTemplate::Choose(kPhi4MiniJinja, VocabularyKind::kO200k); }

TEST(ChatTemplateTest, PublishedPhi4MiniTemplateIsRecognised) {
  EXPECT_EQ(Phi().warning(), "");
  EXPECT_EQ(Prompt(Phi(), {{"user", "Hi"}}), "<|user|>Hi<|end|><|assistant|>");
}

}  // namespace
}  // namespace tandem::tokenizer
