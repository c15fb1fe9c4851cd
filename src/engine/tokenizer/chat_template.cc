#include "engine/tokenizer/chat_template.h"

#include <algorithm>
#include <array>

#include <boost/json.hpp>

#include "engine/tokenizer/python_json.h"

namespace tandem::tokenizer {
namespace {

namespace json = boost::json;

// Without white space and '-' of white-space control outside of string literals, with ' for " and
// message['role'] for message.role: what two people's copies of one template have in common. A line
// break inside a literal becomes \n.
std::string NormalizeJinja(std::string_view jinja) {
  std::string out;
  char quote = 0;
  bool in_block = false;
  for (size_t i = 0; i < jinja.size(); ++i) {
    const char c = jinja[i];
    const std::string_view two = jinja.substr(i, 2);
    if (quote != 0) {
      if (c == '\\' && two.size() == 2) {
        out += two;
        ++i;
      } else if (c == quote) {
        out += '\'';
        quote = 0;
      } else if (c == '\'') {
        out += "\\'";
      } else if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    } else if (in_block && (c == '\'' || c == '"')) {
      quote = c;
      out += '\'';
    } else if (two == "{{" || two == "{%") {
      in_block = true;
      out += two;
      i += i + 2 < jinja.size() && jinja[i + 2] == '-' ? 2 : 1;
    } else if (two == "}}" || two == "%}") {
      in_block = false;
      out += two;
      ++i;
    } else if (two == "-}" || two == "-%") {
      continue;
    } else if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
      out += c;
    }
  }
  return out;
}

void ReplaceAll(std::string* text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size()) {
    text->replace(at, from.size(), to);
  }
}

bool Consume(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// The text of a Jinja string literal's inside.
std::string Unescape(std::string_view literal) {
  std::string out;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      out += literal[i];
      continue;
    }
    const char c = literal[++i];
    out += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
  }
  return out;
}

// A ChatML template's default system prompt is a literal of its own:
// '<|im_start|>system\n...<|im_end|>\n'. (Before messages[0]['content'] the literal ends behind
// \n.)
std::optional<std::string> DefaultSystem(std::string_view normalized) {
  constexpr std::string_view kBegin = "'<|im_start|>system\\n";
  for (size_t at = 0; (at = normalized.find(kBegin, at)) != std::string_view::npos;) {
    at += kBegin.size();
    size_t end = at;
    while (end < normalized.size() && normalized[end] != '\'') {
      end += normalized[end] == '\\' ? 2 : 1;
    }
    const std::string_view literal = normalized.substr(at, end - at);
    if (const size_t turn_end = literal.find("<|im_end|>"); turn_end != std::string_view::npos) {
      return Unescape(literal.substr(0, turn_end));
    }
  }
  return std::nullopt;
}

// Signs of things that a ChatML template may do and Render does not.
constexpr std::array<std::string_view, 9> kForeignFeatures = {
    "enable_thinking", "reasoning_content", "<think>",    "trim", "strftime_now", "raise_exception",
    "vision",          "documents",         "<|im_sep|>",
};

constexpr std::string_view kChatMlToolsHead =
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
constexpr std::string_view kChatMlToolsTail =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n";
constexpr std::string_view kChatMlCallShape =
    "{\"name\": <function-name>, \"arguments\": <args-json-object>}";

// The arguments of a call as JSON; what is not JSON becomes a JSON string, so that a model's own
// malformed call can be sent back to it.
std::string ArgumentsJson(const ToolCall& call) {
  if (auto text = PythonJson(call.arguments)) return *std::move(text);
  std::string text;
  AppendPythonJsonString(call.arguments, &text);
  return text;
}

std::string_view CanonicalRole(std::string_view role) {
  return role == "developer" ? "system" : role;
}

Status CheckRoles(std::span<const ChatMessage> messages) {
  constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string_view role = messages[i].role;
    if (std::ranges::find(kRoles, CanonicalRole(role)) != kRoles.end()) continue;
    auto error = Err(ErrorCode::kInvalidArgument,
                     "messages[{}].role is '{}'; it must be system, developer, user, assistant or "
                     "tool",
                     i, role.substr(0, 64));
    error.error().param = fmt::format("messages[{}].role", i);
    return error;
  }
  if (messages.empty()) {
    auto error = Err(ErrorCode::kInvalidArgument, "messages must hold at least one message");
    error.error().param = "messages";
    return error;
  }
  return {};
}

Result<json::array> ParseTools(std::string_view tools_json) {
  boost::system::error_code parse_error;
  json::value tools = json::parse({tools_json.data(), tools_json.size()}, parse_error);
  if (parse_error || !tools.is_array()) {
    auto error = Err(ErrorCode::kInvalidArgument, "tools must be a JSON array{}{}",
                     parse_error ? ": " : "", parse_error ? parse_error.message() : "");
    error.error().param = "tools";
    return error;
  }
  return std::move(tools.get_array());
}

}  // namespace

// Builds segments. Mark() is the template's own text, Text() is everybody else's.
class ChatTemplate::Writer {
 public:
  Writer(const ChatTemplate& chat_template, const json::array& tools)
      : template_(chat_template), tools_(tools) {}

  void Mark(std::string_view text) { Append(text, true); }
  void Text(std::string_view text) { Append(text, false); }

  void Phi4Mini(std::span<const ChatMessage> messages, bool add_generation_prompt) {
    bool tools_pending = !tools_.empty();
    if (tools_pending && CanonicalRole(messages.front().role) != "system") {
      Mark("<|system|>");
      Phi4MiniTools();
      Mark("<|end|>");
      tools_pending = false;
    }
    for (const ChatMessage& message : messages) {
      const std::string_view role = CanonicalRole(message.role);
      Mark(role == "tool" ? "<|tool_response|>" : fmt::format("<|{}|>", role));
      Text(message.content);
      if (role == "system" && tools_pending) {
        Phi4MiniTools();
        tools_pending = false;
      }
      if (role == "assistant" && !message.tool_calls.empty()) Phi4MiniCalls(message.tool_calls);
      Mark("<|end|>");
    }
    Mark(add_generation_prompt ? "<|assistant|>" : std::string_view(template_.end_of_text_));
  }

  void ChatMl(std::span<const ChatMessage> messages, bool add_generation_prompt) {
    const bool has_system = CanonicalRole(messages.front().role) == "system";
    if (has_system || template_.default_system_ || !tools_.empty()) {
      Mark("<|im_start|>system\n");
      Text(has_system ? messages.front().content : template_.default_system_.value_or(""));
      if (!tools_.empty()) ChatMlTools();
      Mark("<|im_end|>\n");
    }
    for (size_t i = has_system ? 1 : 0; i < messages.size(); ++i) {
      const ChatMessage& message = messages[i];
      const std::string_view role = CanonicalRole(message.role);
      if (role == "tool") {
        // Consecutive results share one user turn.
        const bool first = i == 0 || messages[i - 1].role != "tool";
        const bool last = i + 1 == messages.size() || messages[i + 1].role != "tool";
        if (first) Mark("<|im_start|>user");
        Mark("\n<tool_response>\n");
        Text(message.content);
        Mark("\n</tool_response>");
        if (last) Mark("<|im_end|>\n");
        continue;
      }
      Mark(fmt::format("<|im_start|>{}", role));
      const bool calls = role == "assistant" && !message.tool_calls.empty();
      if (!calls || !message.content.empty()) {
        Mark("\n");
        Text(message.content);
      }
      if (calls) ChatMlCalls(message.tool_calls);
      Mark("<|im_end|>\n");
    }
    if (add_generation_prompt) Mark("<|im_start|>assistant\n");
  }

  std::vector<PromptSegment> Finish() { return std::move(segments_); }

 private:
  void Append(std::string_view text, bool special) {
    if (text.empty()) return;
    if (segments_.empty() || segments_.back().special != special) {
      segments_.push_back({std::string(), special});
    }
    segments_.back().text += text;
  }

  // A list of bare functions: OpenAI's {"type": "function", "function": F} becomes F.
  void Phi4MiniTools() {
    json::array functions;
    for (const json::value& tool : tools_) {
      const json::value* function =
          tool.is_object() ? tool.get_object().if_contains("function") : nullptr;
      functions.push_back(function != nullptr && function->is_object() ? *function : tool);
    }
    std::string text;
    AppendPythonJson(functions, &text);
    Mark("<|tool|>");
    Text(text);
    Mark("<|/tool|>");
  }

  void Phi4MiniCalls(std::span<const ToolCall> calls) {
    std::string text = "[";
    for (const ToolCall& call : calls) {
      if (text.size() > 1) text += ", ";
      text += "{\"name\": ";
      AppendPythonJsonString(call.name, &text);
      text += ", \"arguments\": " + ArgumentsJson(call) + "}";
    }
    Mark("<|tool_call|>");
    Text(text + "]");
    Mark("<|/tool_call|>");
  }

  void ChatMlTools() {
    Mark(kChatMlToolsHead);
    for (const json::value& tool : tools_) {
      std::string text = "\n";
      AppendPythonJson(tool, &text);
      Text(text);
    }
    Mark(kChatMlToolsTail);
    Mark(template_.doubled_braces_ ? fmt::format("{{{}}}", kChatMlCallShape)
                                   : std::string(kChatMlCallShape));
    Mark("\n</tool_call>");
  }

  void ChatMlCalls(std::span<const ToolCall> calls) {
    for (const ToolCall& call : calls) {
      Mark("\n<tool_call>\n{\"name\": \"");
      Text(call.name);  // as it is: the template does not escape it
      Mark("\", \"arguments\": ");
      Text(ArgumentsJson(call));
      Mark("}\n</tool_call>");
    }
  }

  const ChatTemplate& template_;
  const json::array& tools_;
  std::vector<PromptSegment> segments_;
};

bool ChatTemplate::RecognisePhi4Mini(std::string_view rest, std::string_view eos_text) {
  constexpr std::string_view kLoop = "{%formessageinmessages%}";
  constexpr std::string_view kToolsBranch =
      "{%ifmessage['role']=='system'and'tools'inmessageandmessage['tools']isnotnone%}"
      "{{'<|'+message['role']+'|>'+message['content']+'<|tool|>'+message['tools']+'<|/tool|>'+"
      "'<|end|>'}}{%else%}";
  constexpr std::string_view kTurn = "{{'<|'+message['role']+'|>'+message['content']+'<|end|>'}}";
  constexpr std::string_view kEndIf = "{%endif%}";
  if (!Consume(&rest, kLoop)) return false;
  has_tools_ = Consume(&rest, kToolsBranch);
  if (!Consume(&rest, kTurn) || (has_tools_ && !Consume(&rest, kEndIf))) return false;
  if (!Consume(&rest, "{%endfor%}{%ifadd_generation_prompt%}{{'<|assistant|>'}}")) return false;
  end_of_text_ = Consume(&rest, "{%else%}{{eos_token}}") ? eos_text : "";
  style_ = Style::kPhi4Mini;
  default_system_.reset();
  return rest == kEndIf;
}

bool ChatTemplate::RecogniseChatMl(std::string_view normalized, std::string_view jinja) {
  constexpr std::string_view kTurn =
      "'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>'";
  if (normalized.find("<|im_start|>") == std::string_view::npos) return false;
  style_ = Style::kChatMl;
  end_of_text_.clear();
  has_tools_ = normalized.find("<tools>") != std::string_view::npos &&
               normalized.find("<tool_response>") != std::string_view::npos;
  // Qwen2.5's first files have the braces of the call's shape twice, and that is what the
  // model saw.
  doubled_braces_ = normalized.find("{{\"name\": <function-name>") != std::string_view::npos ||
                    normalized.find("{{\\\"name\\\": <function-name>") != std::string_view::npos;
  default_system_ = DefaultSystem(normalized);
  const auto foreign = std::ranges::find_if(kForeignFeatures, [&](std::string_view feature) {
    return jinja.find(feature) != std::string_view::npos;
  });
  if (foreign != kForeignFeatures.end()) {
    warning_ = fmt::format(
        "the model file's chat template is a kind of ChatML that is not fully supported (it uses "
        "'{}'); rendering plain ChatML",
        *foreign);
  } else if (normalized.find(kTurn) == std::string_view::npos) {
    warning_ = "the model file's chat template is not one that is known; rendering plain ChatML";
  }
  return true;
}

ChatTemplate ChatTemplate::Choose(std::string_view jinja, VocabularyKind kind,
                                  std::string_view eos_text) {
  if (eos_text.empty()) eos_text = "<|endoftext|>";
  std::string normalized = NormalizeJinja(jinja);
  for (const std::string_view field : {"role", "content", "tools", "tool_calls"}) {
    ReplaceAll(&normalized, fmt::format("message.{}", field), fmt::format("message['{}']", field));
  }
  ChatTemplate chosen;
  if (chosen.RecognisePhi4Mini(normalized, eos_text)) return chosen;
  if (chosen.RecogniseChatMl(normalized, jinja)) return chosen;

  chosen = ChatTemplate();
  const std::string_view reason = jinja.empty() ? "the model file has no chat template"
                                                : "the model file's chat template is not "
                                                  "one that is known";
  if (kind == VocabularyKind::kO200k) {
    chosen.style_ = Style::kPhi4Mini;
    chosen.end_of_text_ = eos_text;
    chosen.warning_ = fmt::format("{}; rendering Phi-4-mini's", reason);
  } else {
    chosen.style_ = Style::kChatMl;
    chosen.default_system_ = "";
    chosen.warning_ = fmt::format("{}; rendering ChatML", reason);
  }
  return chosen;
}

Result<std::vector<PromptSegment>> ChatTemplate::Render(std::span<const ChatMessage> messages,
                                                        std::string_view tools_json,
                                                        bool add_generation_prompt) const {
  TANDEM_RETURN_IF_ERROR(CheckRoles(messages));
  json::array tools;
  if (!tools_json.empty()) {
    TANDEM_ASSIGN_OR_RETURN(tools, ParseTools(tools_json));
  }
  if (!tools.empty() && !has_tools_) {
    auto error = Err(ErrorCode::kUnsupported, "this model's chat template has no place for tools");
    error.error().param = "tools";
    return error;
  }
  Writer writer(*this, tools);
  if (style_ == Style::kPhi4Mini) {
    writer.Phi4Mini(messages, add_generation_prompt);
  } else {
    writer.ChatMl(messages, add_generation_prompt);
  }
  return writer.Finish();
}

std::string JoinSegments(std::span<const PromptSegment> segments) {
  std::string text;
  for (const PromptSegment& segment : segments) text += segment.text;
  return text;
}

}  // namespace tandem::tokenizer
