#include "app/terminal_chat.h"

#include <future>
#include <memory>
#include <utility>

#include "crypto/random.h"

namespace tandem::app {

Result<std::unique_ptr<TerminalChat>> TerminalChat::Open(const ChatOptions& options) {
  engine::EngineOptions engine_options = options.engine;
  engine_options.max_sessions = 1;
  TANDEM_ASSIGN_OR_RETURN(auto engine, engine::Engine::Load(options.model, engine_options));
  if (!engine->text()) return std::unexpected(engine->text().error());
  return std::unique_ptr<TerminalChat>(new TerminalChat(options, std::move(engine)));
}

TerminalChat::TerminalChat(ChatOptions options, std::unique_ptr<engine::Engine> engine)
    : options_(std::move(options)), engine_(std::move(engine)) {
  Clear();
}

void TerminalChat::Clear() {
  messages_.clear();
  if (!options_.system.empty()) messages_.push_back({.role = "system", .content = options_.system});
}

void TerminalChat::Interrupt() {
  if (const uint64_t running = running_.load(); running != 0) engine_->Cancel(running - 1);
}

Result<ChatTurn> TerminalChat::Ask(std::string_view text,
                                   const std::function<void(std::string_view)>& out) {
  std::vector<engine::ChatMessage> messages = messages_;
  messages.push_back({.role = "user", .content = std::string(text)});
  engine::Request request{.prompt = engine::ChatPrompt{.messages = messages, .tools_json = ""},
                          .sampling = options_.sampling,
                          .max_tokens = options_.max_tokens};
  request.sampling.seed = options_.seed ? *options_.seed : crypto::RandomUint64();
  ChatTurn turn;
  // Shared: the scheduler thread may still be inside set_value when this thread goes on.
  auto ended = std::make_shared<std::promise<Status>>();
  auto id = engine_->Submit(std::move(request), [&, ended](engine::Event event) {
    if (auto* delta = std::get_if<engine::TextDelta>(&event)) {
      turn.text += delta->text;
      out(delta->text);
    } else if (auto* finished = std::get_if<engine::Finished>(&event)) {
      turn.finished = std::move(*finished);
      ended->set_value({});
    } else {
      ended->set_value(std::unexpected(std::move(std::get<engine::Failed>(event).error)));
    }
  });
  if (!id) return std::unexpected(std::move(id).error());
  running_ = *id + 1;
  Status status = ended->get_future().get();
  running_ = 0;
  TANDEM_RETURN_IF_ERROR(std::move(status));
  messages.push_back({.role = "assistant", .content = turn.text});
  messages_ = std::move(messages);
  return turn;
}

}  // namespace tandem::app
