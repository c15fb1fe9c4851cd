// Messages to the exact text that a model was trained on.
//
// A GGUF file carries its template as Jinja. There is no Jinja interpreter here: the two templates
// that matter are written down as code, and the file's text decides which one applies and with what
// details. Prompts come out in segments, so that nothing a user writes can become a marker.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON text, usually an object
};

struct ChatMessage {
  std::string role;  // system, developer (the same), user, assistant, tool
  std::string content;
  std::string name = {};                  // not rendered by these templates
  std::vector<ToolCall> tool_calls = {};  // assistant only
  std::string tool_call_id = {};          // not rendered by these templates
};

// Immutable; any thread.
class ChatTemplate {
 public:
  enum class Style {
    // <|role|>content<|end|>, nothing between. Tools: as a JSON list of functions behind the system
    // message, in <|tool|>...<|/tool|>. Calls: <|tool_call|>[...]<|/tool_call|>. Results:
    // <|tool_response|>content<|end|> (the published template has no place for them; the token
    // exists and community code uses it so).
    kPhi4Mini,
    // <|im_start|>role\ncontent<|im_end|>\n: Qwen2, Qwen2.5, MiMo. Tools in Hermes style, inside
    // <tools>, <tool_call> and <tool_response>.
    kChatMl,
  };

  // Recognises `jinja`, the template in the model file. White space, '-' of white-space control and
  // the kind of quotes do not count.
  //   Phi-4-mini: exactly its published template, with or without the branch for tools and the one
  //               that ends with eos_token.
  //   ChatML:     holds the ChatML turn, and no sign of a feature that is not rendered here
  //               (thinking switches, trimming, vision, ...). A default system prompt is read out
  //               of the literal in the template; tools work where the template has <tools>.
  // Anything else: what resembles it, or else the family's own template (o200k: Phi-4-mini; qwen2:
  // ChatML with an empty system turn, which MiMo's README recommends), and a warning() that says
  // so. `eos_text` is the text of the eos token; where it is empty, <|endoftext|>.
  static ChatTemplate Choose(std::string_view jinja, VocabularyKind kind,
                             std::string_view eos_text = {});

  // The prompt for `messages`. `tools_json` is a JSON array in OpenAI's form, or empty.
  // Errors: kInvalidArgument for no messages, an unknown role, or tools that are no JSON array;
  //         kUnsupported for tools where the file's template has none. `param` names the field.
  Result<std::vector<PromptSegment>> Render(std::span<const ChatMessage> messages,
                                            std::string_view tools_json,
                                            bool add_generation_prompt) const;

  Style style() const { return style_; }
  // The text of the system turn when no message gives one; nothing: no such turn.
  const std::optional<std::string>& default_system() const { return default_system_; }
  bool has_tools() const { return has_tools_; }
  // Why answers may be worse than the model can do; empty when the template was recognised.
  const std::string& warning() const { return warning_; }

 private:
  class Writer;

  ChatTemplate() = default;
  bool RecognisePhi4Mini(std::string_view normalized, std::string_view eos_text);
  bool RecogniseChatMl(std::string_view normalized, std::string_view jinja);

  Style style_ = Style::kPhi4Mini;
  std::optional<std::string> default_system_;
  bool has_tools_ = true;
  bool doubled_braces_ = false;
  std::string end_of_text_;  // behind the last turn when no answer is asked for; may be empty
  std::string warning_;
};

// The texts of all segments as one string, for people and tests.
std::string JoinSegments(std::span<const PromptSegment> segments);

}  // namespace tandem::tokenizer
