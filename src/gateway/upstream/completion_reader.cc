#include "gateway/upstream/completion_reader.h"

#include <array>
#include <utility>

#include <boost/json.hpp>

#include "gateway/openai/json_text.h"
#include "gateway/upstream/upstream_error.h"

namespace tandem::gateway::upstream {
namespace {

namespace json = boost::json;

// Far beyond any answer; protects memory from an upstream gone wrong.
constexpr size_t kMaxEventBytes = size_t{1} << 20;
constexpr size_t kMaxWholeBytes = size_t{16} << 20;
constexpr size_t kMaxCallBytes = size_t{1} << 20;

const json::object* ObjectAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr ? value->if_object() : nullptr;
}

std::string_view StringAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  const json::string* text = value != nullptr ? value->if_string() : nullptr;
  return text != nullptr ? std::string_view(*text) : std::string_view();
}

int64_t CountAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  const int64_t count = value != nullptr && value->is_int64() ? value->get_int64() : 0;
  return count > 0 ? count : 0;
}

Usage UsageFrom(const json::object& object) {
  Usage usage{.prompt_tokens = CountAt(object, "prompt_tokens"),
              .completion_tokens = CountAt(object, "completion_tokens"),
              .cached_tokens = CountAt(object, "prompt_cache_hit_tokens")};  // DeepSeek's name
  if (const json::object* details = ObjectAt(object, "prompt_tokens_details")) {
    usage.cached_tokens = CountAt(*details, "cached_tokens");
  }
  return usage;
}

// `item` of choices[0].logprobs.content.
std::optional<TokenLogprob> LogprobFrom(const json::value& item) {
  const json::object* object = item.if_object();
  if (object == nullptr) return std::nullopt;
  const auto number = [](const json::object& from) {
    const json::value* value = from.if_contains("logprob");
    boost::system::error_code error;
    const double logprob = value != nullptr ? value->to_number<double>(error) : 0.0;
    return error ? 0.0F : static_cast<float>(logprob);
  };
  TokenLogprob token{.token = std::string(StringAt(*object, "token")), .logprob = number(*object)};
  const json::value* top = object->if_contains("top_logprobs");
  if (top != nullptr && top->is_array()) {
    for (const json::value& alternative : top->get_array()) {
      if (const json::object* one = alternative.if_object()) {
        token.top.push_back({std::string(StringAt(*one, "token")), number(*one)});
      }
    }
  }
  return token;
}

}  // namespace

CompletionReader::CompletionReader(Form form, EventSink* sink)
    : form_(form),
      sink_(sink),
      parser_([this](const net::SseEvent& event) { OnData(event.data); }, kMaxEventBytes) {}

bool CompletionReader::Push(std::string_view bytes) {
  if (ended_) return false;
  if (form_ == Form::kWhole) {
    if (whole_.size() + bytes.size() > kMaxWholeBytes) {
      Fail(FailureCode::kUnavailable, "the upstream's answer is larger than any answer should be");
      return false;
    }
    whole_ += bytes;
    return true;
  }
  if (const Status status = parser_.Push(bytes); !status && !ended_) {
    Fail(FailureCode::kUnavailable,
         "the upstream's stream is malformed: " + status.error().message);
  }
  return !ended_;
}

void CompletionReader::End() {
  if (ended_) return;
  if (form_ == Form::kWhole) {
    any_chunk_ = true;
    OnObject(whole_);
    if (ended_) return;
  }
  if (finish_reason_) return Finish();
  Fail(FailureCode::kUnavailable, any_chunk_ ? "the upstream cut its answer before the end"
                                             : "the upstream sent an empty answer");
}

void CompletionReader::OnData(std::string_view data) {
  if (ended_ || data.empty()) return;
  if (data == "[DONE]") {
    End();
    return;
  }
  any_chunk_ = true;
  const ChunkScanner::Plain* plain = scanner_.Scan(data);
  if (plain == nullptr) return OnObject(data);
  if (plain->thought) ++n_pieces_;
  if (plain->content.empty()) return;
  ++n_pieces_;
  CloseCall();
  (*sink_)(TextDelta{.text = std::string(plain->content), .logprobs = {}});
}

void CompletionReader::OnObject(std::string_view text) {
  // A chunk is small, and there are many: its tree lies on the stack.
  std::array<unsigned char, 4096> tree;
  std::array<unsigned char, 1024> stack;
  json::monotonic_resource arena(tree.data(), tree.size());
  json::parse_options options;
  options.max_depth = 32;
  json::parser parser(&arena, options, stack.data(), stack.size());
  boost::system::error_code error;
  parser.write(text, error);
  const json::value value = error ? json::value(&arena) : parser.release();
  const json::object* object = value.if_object();
  if (object == nullptr) {
    return Fail(FailureCode::kUnavailable, "the upstream sent something that is not a JSON object");
  }
  if (const json::value* in_band = object->if_contains("error"); in_band && !in_band->is_null()) {
    return Fail(FailureFromObject(*in_band));
  }
  if (const json::object* usage = ObjectAt(*object, "usage")) usage_ = UsageFrom(*usage);
  const json::value* choices = object->if_contains("choices");
  if (choices == nullptr || !choices->is_array()) {
    return Fail(FailureCode::kUnavailable, "the upstream sent an answer without choices");
  }
  if (choices->get_array().empty()) return;  // the chunk that only carries usage
  const json::object* choice = choices->get_array()[0].if_object();
  const json::object* delta =
      choice ? ObjectAt(*choice, form_ == Form::kStream ? "delta" : "message") : nullptr;
  if (delta != nullptr) {
    // Thoughts under their two names (DeepSeek's; vLLM's and Ollama's newer one), not passed on.
    if (!StringAt(*delta, "reasoning_content").empty() || !StringAt(*delta, "reasoning").empty()) {
      ++n_pieces_;
    }
    TextDelta piece{.text = std::string(StringAt(*delta, "content")), .logprobs = {}};
    if (const json::object* logprobs = ObjectAt(*choice, "logprobs")) {
      const json::value* content = logprobs->if_contains("content");
      if (content != nullptr && content->is_array()) {
        for (const json::value& item : content->get_array()) {
          if (auto token = LogprobFrom(item)) piece.logprobs.push_back(std::move(*token));
        }
      }
    }
    if (!piece.text.empty() || !piece.logprobs.empty()) {
      ++n_pieces_;
      CloseCall();
      (*sink_)(std::move(piece));
    }
    const json::value* calls = delta->if_contains("tool_calls");
    if (calls != nullptr && calls->is_array()) {
      int64_t position = 0;
      for (const json::value& item : calls->get_array()) {
        const json::object* call = item.if_object();
        if (call == nullptr) continue;
        ++n_pieces_;
        // A complete message has no index: its calls stand in order.
        const json::value* index = call->if_contains("index");
        const int64_t at = index && index->is_int64() ? index->get_int64() : position;
        ++position;
        const json::object* function = ObjectAt(*call, "function");
        OnCallFragment(at, function ? StringAt(*function, "name") : "",
                       function ? StringAt(*function, "arguments") : "");
        if (ended_) return;
      }
    }
  }
  const std::string_view reason = choice ? StringAt(*choice, "finish_reason") : "";
  if (reason.empty()) return;
  if (reason == "insufficient_system_resource") {
    return Fail(FailureCode::kUnavailable, "the upstream ran out of resources");
  }
  finish_reason_ = reason == "length"           ? FinishReason::kLength
                   : reason == "content_filter" ? FinishReason::kContentFilter
                                                : FinishReason::kStop;
}

void CompletionReader::OnCallFragment(int64_t index, std::string_view name,
                                      std::string_view arguments) {
  if (index < 0 || index >= kMaxCalls) {
    return Fail(FailureCode::kUnavailable, "the upstream numbers its function calls wrongly");
  }
  if (!call_ || call_->index != index) {
    if (name.empty() && arguments.empty()) return;  // some send an empty one behind the last
    CloseCall();
    if (calls_seen_.test(static_cast<size_t>(index))) {
      return Fail(FailureCode::kUnavailable, "the upstream mixes up its function calls");
    }
    calls_seen_.set(static_cast<size_t>(index));
    call_ = OpenCall{.index = index, .name = {}};
  }
  call_->n_bytes += name.size() + arguments.size();
  if (call_->n_bytes > kMaxCallBytes) {
    return Fail(FailureCode::kUnavailable, "the upstream's function call is too large");
  }
  if (!call_->begun) call_->name += name;
  if (!arguments.empty()) PassArguments(arguments);
}

void CompletionReader::PassArguments(std::string_view arguments) {
  std::string text;
  if (!call_->begun) {
    text = "<tool_call>\n{\"name\":";
    openai::AppendJsonString(call_->name, &text);
    text += ",\"arguments\":\"";
    call_->begun = true;
  }
  std::string quoted;
  openai::AppendJsonString(arguments, &quoted);
  text.append(quoted, 1, quoted.size() - 2);
  (*sink_)(TextDelta{.text = std::move(text), .logprobs = {}});
}

void CompletionReader::CloseCall() {
  if (!call_) return;
  if (!call_->begun) PassArguments("{}");
  call_.reset();
  (*sink_)(TextDelta{.text = "\"}\n</tool_call>", .logprobs = {}});
}

void CompletionReader::Finish() {
  CloseCall();
  ended_ = true;
  (*sink_)(Finished{.reason = *finish_reason_, .usage = usage_});
}

void CompletionReader::Fail(FailureCode code, std::string message) {
  Fail(Failure{code, std::move(message)});
}

void CompletionReader::Fail(Failure failure) {
  if (ended_) return;
  ended_ = true;
  (*sink_)(Failed{.failure = std::move(failure), .usage = usage_});
}

}  // namespace tandem::gateway::upstream
