#include "train_cascade/collect.h"

#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "engine/engine.h"
#include "gateway/classify/classifier.h"

namespace tandem::train_cascade {
namespace {

namespace json = boost::json;
namespace dispatch = gateway::dispatch;

constexpr int32_t kMaxTokens = 80;

struct Question {
  std::vector<engine::ChatMessage> messages;
  std::string reference;
};

Result<Question> ParseQuestion(std::string_view line) {
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object()) return Err(ErrorCode::kCorrupt, "no JSON object");
  const json::object& object = value.get_object();
  const auto text = [](const json::object& from, std::string_view name) -> Result<std::string> {
    const json::value* member = from.if_contains(name);
    if (member == nullptr || !member->is_string()) {
      return Err(ErrorCode::kCorrupt, "'{}' is missing", name);
    }
    return std::string(member->get_string());
  };
  Question question;
  TANDEM_ASSIGN_OR_RETURN(question.reference, text(object, "answer"));
  const json::value* messages = object.if_contains("messages");
  if (messages == nullptr || !messages->is_array()) {
    return Err(ErrorCode::kCorrupt, "'messages' is missing");
  }
  for (const json::value& message : messages->get_array()) {
    if (!message.is_object()) return Err(ErrorCode::kCorrupt, "a message is no object");
    engine::ChatMessage& to = question.messages.emplace_back();
    TANDEM_ASSIGN_OR_RETURN(to.role, text(message.get_object(), "role"));
    TANDEM_ASSIGN_OR_RETURN(to.content, text(message.get_object(), "content"));
  }
  return question;
}

struct Answer {
  std::string text;
  std::vector<dispatch::TokenConfidence> beginning;
};

Result<Answer> Ask(engine::Engine& engine, const Question& question,
                   const CollectOptions& options) {
  struct State {
    Answer answer;
    std::promise<Status> ended;
  };
  auto state = std::make_shared<State>();
  std::future<Status> ended = state->ended.get_future();
  engine::Request request{.prompt = engine::ChatPrompt{question.messages, {}},
                          .max_tokens = kMaxTokens,
                          .top_logprobs = dispatch::TokenConfidence::kAlternatives};
  request.sampling.temperature = static_cast<float>(options.temperature);
  request.sampling.seed = options.seed;
  TANDEM_RETURN_IF_ERROR(
      engine.Submit(std::move(request), [state, n = options.tokens](engine::Event event) {
        if (auto* failed = std::get_if<engine::Failed>(&event)) {
          state->ended.set_value(std::unexpected(std::move(failed->error)));
        } else if (std::holds_alternative<engine::Finished>(event)) {
          state->ended.set_value({});
        } else {
          auto& delta = std::get<engine::TextDelta>(event);
          state->answer.text += delta.text;
          for (const engine::TokenLogprobs& token : delta.logprobs) {
            if (std::ssize(state->answer.beginning) >= n) break;
            gateway::TokenLogprob to{token.chosen.bytes, token.chosen.logprob, {}};
            for (const auto& top : token.top) to.top.push_back({top.bytes, top.logprob});
            if (const auto read = dispatch::ReadConfidence(to)) {
              state->answer.beginning.push_back(*read);
            }
          }
        }
      }));
  TANDEM_RETURN_IF_ERROR(ended.get());
  return std::move(state->answer);
}

}  // namespace

Status Collect(const CollectOptions& options, const std::function<void(const Example&)>& callback) {
  TANDEM_ASSIGN_OR_RETURN(const auto engine, engine::Engine::Load(options.model, {}));
  std::ifstream file(options.exam);
  if (!file) return Err(ErrorCode::kNotFound, "cannot read {}", options.exam.string());
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    auto question = ParseQuestion(line);
    if (!question) {
      return Wrap(std::move(question).error(),
                  fmt::format("{} line {}", options.exam.string(), number));
    }
    TANDEM_ASSIGN_OR_RETURN(const Answer answer, Ask(*engine, *question, options));
    if (answer.beginning.empty()) continue;
    callback({.confidence = dispatch::Summarise(answer.beginning),
              .task = gateway::Classify(question->messages.back().content).task,
              .temperature = options.temperature,
              .correct = answer.text == question->reference});
  }
  return {};
}

}  // namespace tandem::train_cascade
