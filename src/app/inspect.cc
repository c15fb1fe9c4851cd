#include "app/inspect.h"

#include <bit>
#include <charconv>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "crypto/digest.h"
#include "engine/text_codec.h"
#include "os/file.h"

namespace tandem::app {
namespace {

namespace json = boost::json;

Result<json::value> ParseJson(std::string_view text) {
  boost::system::error_code error;
  json::parse_options options;
  options.max_depth = 64;
  json::value value = json::parse(text, error, {}, options);
  if (error) return Err(ErrorCode::kInvalidArgument, "not valid JSON: {}", error.message());
  return value;
}

Result<std::vector<int32_t>> IdsFromJson(const json::value& value) {
  const json::value* list = &value;
  if (const json::object* object = value.if_object()) list = object->if_contains("ids");
  if (list == nullptr || !list->is_array()) {
    return Err(ErrorCode::kInvalidArgument,
               "expected an array of token ids, or {{\"ids\": [...]}}");
  }
  std::vector<int32_t> ids;
  for (const json::value& item : list->get_array()) {
    if (!item.is_int64() || !std::in_range<int32_t>(item.get_int64())) {
      return Err(ErrorCode::kInvalidArgument, "element {} is not a token id", ids.size());
    }
    ids.push_back(static_cast<int32_t>(item.get_int64()));
  }
  return ids;
}

Result<std::string> TextFromJson(const json::value& value) {
  if (const json::string* text = value.if_string()) return std::string(*text);
  const json::object* object = value.if_object();
  if (object != nullptr) {
    // The hexadecimal form can carry what JSON text cannot, so it wins where both are given.
    if (const json::value* hex = object->if_contains("utf8_hex"); hex && hex->is_string()) {
      return crypto::FromHex(hex->get_string());
    }
    if (const json::value* text = object->if_contains("text"); text && text->is_string()) {
      return std::string(text->get_string());
    }
  }
  return Err(ErrorCode::kInvalidArgument,
             "expected an object with \"text\" or \"utf8_hex\", each a string");
}

std::string StringField(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

Result<engine::ChatMessage> MessageFromJson(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr || StringField(*object, "role").empty()) {
    return Err(ErrorCode::kInvalidArgument, "a message is an object with \"role\" and \"content\"");
  }
  engine::ChatMessage message;
  message.role = StringField(*object, "role");
  message.content = StringField(*object, "content");
  message.name = StringField(*object, "name");
  message.tool_call_id = StringField(*object, "tool_call_id");
  if (const json::value* calls = object->if_contains("tool_calls"); calls && calls->is_array()) {
    for (const json::value& call : calls->get_array()) {
      const json::object* outer = call.if_object();
      const json::value* function = outer ? outer->if_contains("function") : nullptr;
      if (function == nullptr || !function->is_object()) {
        return Err(ErrorCode::kInvalidArgument, "a tool call is an object with \"function\"");
      }
      message.tool_calls.push_back({StringField(*outer, "id"),
                                    StringField(function->get_object(), "name"),
                                    StringField(function->get_object(), "arguments")});
    }
  }
  return message;
}

Result<std::vector<int32_t>> RenderChat(const engine::TextCodec& codec, const json::value& value) {
  const json::value* list = &value;
  std::string tools;
  if (const json::object* object = value.if_object()) {
    list = object->if_contains("messages");
    if (const json::value* given = object->if_contains("tools"); given && given->is_array()) {
      tools = json::serialize(*given);
    }
  }
  if (list == nullptr || !list->is_array()) {
    return Err(ErrorCode::kInvalidArgument,
               "expected an array of messages, or {{\"messages\": [...]}}");
  }
  std::vector<engine::ChatMessage> messages;
  for (const json::value& item : list->get_array()) {
    TANDEM_ASSIGN_OR_RETURN(engine::ChatMessage message, MessageFromJson(item));
    messages.push_back(std::move(message));
  }
  return codec.RenderChat(messages, tools);
}

Result<std::string> TokenizeOne(const TokenizeOptions& options, const engine::TextCodec& codec,
                                std::string_view input) {
  using Specials = engine::TextCodec::Specials;
  const Specials specials = options.specials ? Specials::kTokens : Specials::kText;
  if (options.chat) {
    TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(input));
    TANDEM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, RenderChat(codec, value));
    return FormatTokenIds(ids);
  }
  if (options.decode) {
    TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(input));
    TANDEM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, IdsFromJson(value));
    TANDEM_ASSIGN_OR_RETURN(std::string text, codec.Decode(ids, specials));
    return options.json_lines ? json::serialize(json::value(text)) : text;
  }
  std::string text(input);
  if (options.json_lines) {
    TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(input));
    TANDEM_ASSIGN_OR_RETURN(text, TextFromJson(value));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, codec.Encode(text, specials));
  return FormatTokenIds(ids);
}

}  // namespace

Result<std::vector<int32_t>> ParseTokenIds(std::string_view text) {
  if (text.find('[') != std::string_view::npos) {
    TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(text));
    return IdsFromJson(value);
  }
  std::vector<int32_t> ids;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    std::string_view item = text.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    int32_t id = 0;
    const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), id);
    if (error != std::errc{} || end != item.data() + item.size()) {
      return Err(ErrorCode::kInvalidArgument, "'{}' is not a token id; give them as 1,2,3", item);
    }
    ids.push_back(id);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return ids;
}

std::string FormatTokenIds(const std::vector<int32_t>& ids) {
  return fmt::format("[{}]", fmt::join(ids, ","));
}

Status Tokenize(const TokenizeOptions& options, std::string_view input, const LineSink& out) {
  TANDEM_ASSIGN_OR_RETURN(const auto codec, engine::TextCodec::Open(options.source));
  if (!options.json_lines) {
    TANDEM_ASSIGN_OR_RETURN(const std::string line, TokenizeOne(options, *codec, input));
    return out(line);
  }
  for (int number = 1; !input.empty(); ++number) {
    const size_t end = std::min(input.find('\n'), input.size());
    std::string_view line = input.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    auto result = TokenizeOne(options, *codec, line);
    if (!result) return Wrap(std::move(result).error(), fmt::format("line {}", number));
    TANDEM_RETURN_IF_ERROR(out(*result));
  }
  return {};
}

Result<std::vector<int32_t>> WriteLogits(const LogitsOptions& options) {
  static_assert(std::endian::native == std::endian::little,
                "rows are written as they lie in memory");
  // The rename at the end would replace a device or a pipe by a file, and a link instead of what it
  // points to.
  std::error_code error_of_out;
  std::filesystem::path out = options.out;
  if (std::filesystem::exists(out, error_of_out)) {
    if (!std::filesystem::is_regular_file(out, error_of_out)) {
      return Err(ErrorCode::kInvalidArgument,
                 "'{}' is not a regular file; write the logits to a file", out.string());
    }
    out = std::filesystem::canonical(out, error_of_out);
    if (error_of_out) return ErrnoError(error_of_out.value(), "resolving " + options.out.string());
  }
  TANDEM_ASSIGN_OR_RETURN(const auto engine, engine::Engine::Load(options.model, options.engine));
  if (!out.empty()) {
    const std::filesystem::path part = out.string() + ".part";
    TANDEM_ASSIGN_OR_RETURN(auto file, os::OutputFile::Open(part, os::OutputFile::Mode::kTruncate));
    const auto write = [&]() -> Status {
      TANDEM_RETURN_IF_ERROR(
          engine->Logits(options.tokens, [&](int32_t, std::span<const float> logits) {
            return file.Append(std::as_bytes(logits));
          }));
      TANDEM_RETURN_IF_ERROR(file.Close());
      std::error_code error;
      std::filesystem::rename(part, out, error);
      if (error) return ErrnoError(error.value(), "renaming " + part.string());
      return {};
    };
    if (Status status = write(); !status) {
      std::error_code ignored;
      std::filesystem::remove(part, ignored);
      return std::unexpected(std::move(status).error());
    }
  }
  if (options.greedy <= 0) return std::vector<int32_t>{};
  return engine->GreedyContinuation(options.tokens, options.greedy);
}

}  // namespace tandem::app
