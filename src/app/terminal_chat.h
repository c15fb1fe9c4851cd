// `tandem run`: a conversation with a local model in the terminal.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"

namespace tandem::app {

struct ChatOptions {
  std::filesystem::path model;
  engine::EngineOptions engine;
  engine::SamplingOptions sampling;
  std::optional<uint64_t> seed;  // empty: another one for each turn
  std::string system;            // empty: none
  int max_tokens = 0;
};

struct ChatTurn {
  engine::Finished finished;
  std::string text;
};

// One conversation; each turn sees the ones before it.
// Thread: one, apart from Interrupt.
class TerminalChat {
 public:
  static Result<std::unique_ptr<TerminalChat>> Open(const ChatOptions& options);

  const engine::ModelInfo& info() const { return engine_->info(); }
  // Of the conversation so far.
  engine::SpeculationFigures speculation() const { return engine_->speculation(); }

  // Asks and waits; pieces of the answer arrive at `out` on another thread. The turn enters the
  // history only when it ended well.
  Result<ChatTurn> Ask(std::string_view text, const std::function<void(std::string_view)>& out);

  // Ends the turn that is running, as if the model had stopped. Thread: any, and safe in a signal
  // handler's thread (not in the handler itself).
  void Interrupt();

  // Forgets everything but the system message.
  void Clear();

 private:
  TerminalChat(ChatOptions options, std::unique_ptr<engine::Engine> engine);

  ChatOptions options_;
  std::unique_ptr<engine::Engine> engine_;
  std::vector<engine::ChatMessage> messages_;
  std::atomic<uint64_t> running_{0};  // submission id + 1; 0: none
};

}  // namespace tandem::app
