#include "gateway/openai/chat_messages.h"

#include <algorithm>
#include <array>

namespace tandem::gateway::openai {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

// A string field that must be there.
Parsed<std::string> RequiredString(const ObjectReader& reader, std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(const auto text, reader.String(name));
  if (!text) return Invalid(reader.PathOf(name), "is required");
  return std::string(*text);
}

Parsed<std::string> OptionalString(const ObjectReader& reader, std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(const auto text, reader.String(name));
  return std::string(text.value_or(""));
}

Parsed<std::string> ParsePart(const json::value& value, const std::string& path,
                              bool from_assistant) {
  const json::object* part = value.if_object();
  if (part == nullptr) return Invalid(path, "must be an object, not {}", KindName(value));
  const ObjectReader reader(*part, path);
  TANDEM_ASSIGN_OR_RETURN(const std::string type, RequiredString(reader, "type"));
  if (type == "text") return RequiredString(reader, "text");
  if (type == "refusal" && from_assistant) return RequiredString(reader, "refusal");
  if (type == "image_url" || type == "input_audio" || type == "file") {
    return Unsupported(reader.PathOf("type"),
                       "is \"{}\", but the models here read text only; send parts of type \"text\"",
                       type);
  }
  return Invalid(reader.PathOf("type"), "must be \"text\", not \"{}\"", type);
}

// A string, or the text of its parts, one a line.
Parsed<std::string> ParseContent(const json::value& content, const std::string& path,
                                 bool from_assistant) {
  if (const json::string* text = content.if_string())
    return std::string(text->data(), text->size());
  const json::array* parts = content.if_array();
  if (parts == nullptr) {
    return Invalid(path, "must be a string or an array of parts, not {}", KindName(content));
  }
  if (parts->empty()) return Invalid(path, "must have at least one part");
  std::string joined;
  for (size_t i = 0; i < parts->size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const std::string text,
                            ParsePart((*parts)[i], fmt::format("{}[{}]", path, i), from_assistant));
    if (i > 0) joined += '\n';
    joined += text;
  }
  return joined;
}

Parsed<ToolCall> ParseToolCall(const json::value& value, const std::string& path) {
  const json::object* object = value.if_object();
  if (object == nullptr) return Invalid(path, "must be an object, not {}", KindName(value));
  const ObjectReader reader(*object, path);
  TANDEM_ASSIGN_OR_RETURN(const auto type, reader.String("type"));
  if (type.value_or("function") != "function") {
    return Unsupported(reader.PathOf("type"), "must be \"function\", not \"{}\"", *type);
  }
  ToolCall call;
  TANDEM_ASSIGN_OR_RETURN(call.id, RequiredString(reader, "id"));
  TANDEM_ASSIGN_OR_RETURN(const json::object* function, reader.Object("function"));
  if (function == nullptr) return Invalid(reader.PathOf("function"), "is required");
  const ObjectReader inner(*function, reader.PathOf("function"));
  TANDEM_ASSIGN_OR_RETURN(call.name, RequiredString(inner, "name"));
  TANDEM_ASSIGN_OR_RETURN(call.arguments, RequiredString(inner, "arguments"));
  return call;
}

Parsed<std::vector<ToolCall>> ParseToolCalls(const ObjectReader& reader) {
  std::vector<ToolCall> calls;
  TANDEM_ASSIGN_OR_RETURN(const json::array* array, reader.Array("tool_calls"));
  if (array == nullptr) return calls;
  for (size_t i = 0; i < array->size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(
        ToolCall call,
        ParseToolCall((*array)[i], fmt::format("{}[{}]", reader.PathOf("tool_calls"), i)));
    calls.push_back(std::move(call));
  }
  return calls;
}

Parsed<Message> ParseMessage(const json::value& value, const std::string& path) {
  const json::object* object = value.if_object();
  if (object == nullptr) return Invalid(path, "must be an object, not {}", KindName(value));
  const ObjectReader reader(*object, path);
  Message message;
  TANDEM_ASSIGN_OR_RETURN(message.role, RequiredString(reader, "role"));
  if (message.role == "function") {
    return Unsupported(reader.PathOf("role"),
                       "is the retired \"function\"; use \"tool\" with a tool_call_id");
  }
  if (std::ranges::find(kRoles, message.role) == kRoles.end()) {
    return Invalid(reader.PathOf("role"), "must be one of {}, not \"{}\"", fmt::join(kRoles, ", "),
                   message.role);
  }
  TANDEM_ASSIGN_OR_RETURN(message.name, OptionalString(reader, "name"));

  const bool from_assistant = message.role == "assistant";
  if (from_assistant) {
    TANDEM_ASSIGN_OR_RETURN(message.tool_calls, ParseToolCalls(reader));
  }
  if (message.role == "tool") {
    TANDEM_ASSIGN_OR_RETURN(message.tool_call_id, RequiredString(reader, "tool_call_id"));
  }

  if (const json::value* content = reader.Find("content")) {
    TANDEM_ASSIGN_OR_RETURN(message.content,
                            ParseContent(*content, reader.PathOf("content"), from_assistant));
    return message;
  }
  TANDEM_ASSIGN_OR_RETURN(const auto refusal, reader.String("refusal"));
  if (from_assistant && refusal) {
    message.content = *refusal;
  } else if (message.tool_calls.empty()) {
    return Invalid(reader.PathOf("content"), "is required{}",
                   from_assistant ? " where there are no tool_calls" : "");
  }
  return message;
}

}  // namespace

Parsed<std::vector<Message>> ParseMessages(const json::array& messages) {
  if (messages.empty()) return Invalid("messages", "must have at least one message");
  std::vector<Message> parsed;
  parsed.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Message message,
                            ParseMessage(messages[i], fmt::format("messages[{}]", i)));
    parsed.push_back(std::move(message));
  }
  return parsed;
}

}  // namespace tandem::gateway::openai
