// tandem run: a chat in the terminal, or one answer.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "app/byte_size.h"
#include "app/models.h"
#include "app/terminal_chat.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "os/memory.h"

namespace tandem::cli {
namespace {

struct RunFlags {
  std::string model;
  std::string prompt;
  bool has_prompt = false;
  bool verbose = false;
  app::ChatOptions chat;
  EngineFlags engine;
  DataDirOption data_dir;
};

Status PrintPiece(std::string_view text) { return Print(text); }

void PrintFigures(const app::ChatTurn& turn, const engine::SpeculationFigures& speculation) {
  const auto& [reason, usage, timings, detail] = turn.finished;
  PrintError(fmt::format(
      "{} prompt tokens ({} cached), {} answer tokens, first after {:.0f} ms, {:.1f} tokens/s\n",
      usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, timings.ttft_ms,
      timings.decode_tokens_per_second));
  std::string drafts;
  for (size_t i = 0; i < speculation.drafters.size(); ++i) {
    const auto& [drafted, accepted] = speculation.drafters[i];
    if (drafted == 0) continue;
    drafts += fmt::format("{}{} of {} {}", drafts.empty() ? "drafts " : ", ", accepted, drafted,
                          engine::DrafterName(static_cast<engine::Drafter>(i)));
  }
  if (!drafts.empty()) {
    PrintError(fmt::format("{} right, {:.0f} % gained\n", drafts, 100 * speculation.gain()));
  }
  // What this process had resident at most, mapped weights included.
  if (const auto memory = os::ReadMemoryStatus()) {
    PrintError(fmt::format("peak memory {} ({} bytes)\n",
                           app::FormatByteSize(memory->process_peak_bytes),
                           memory->process_peak_bytes));
  }
}

Status AnswerOnce(app::TerminalChat* chat, const RunFlags& flags, std::string_view prompt) {
  Status printed;
  TANDEM_ASSIGN_OR_RETURN(const app::ChatTurn turn, chat->Ask(prompt, [&](std::string_view text) {
    if (!printed) return;
    printed = PrintPiece(text);
    if (!printed) chat->Interrupt();  // nobody reads any more
  }));
  TANDEM_RETURN_IF_ERROR(std::move(printed));
  TANDEM_RETURN_IF_ERROR(Print("\n"));
  if (flags.verbose) PrintFigures(turn, chat->speculation());
  return {};
}

// Ctrl-C ends the answer, not the conversation. A thread of its own takes the signal, because what
// has to be done is not allowed in a handler.
class InterruptWatch {
 public:
  explicit InterruptWatch(app::TerminalChat* chat) {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::jthread([this, chat](std::stop_token stop) {
      while (!stop.stop_requested()) {
        int number = 0;
        if (sigwait(&signals_, &number) == 0 && !stop.stop_requested()) chat->Interrupt();
      }
    });
  }
  ~InterruptWatch() {
    thread_.request_stop();
    pthread_kill(thread_.native_handle(), SIGINT);
  }

 private:
  sigset_t signals_;
  std::jthread thread_;
};

Status Converse(app::TerminalChat* chat, const RunFlags& flags) {
  InterruptWatch watch(chat);
  PrintError(fmt::format("{}. /clear starts anew, /bye or Ctrl-D ends, Ctrl-C stops an answer.\n",
                         chat->info().name));
  std::string line;
  while (true) {
    TANDEM_RETURN_IF_ERROR(Print(">>> "));
    line.clear();
    int c;
    while ((c = std::getc(stdin)) != EOF && c != '\n') line.push_back(static_cast<char>(c));
    if (c == EOF && line.empty()) return Print("\n");
    if (line == "/bye") return {};
    if (line == "/clear") {
      chat->Clear();
      continue;
    }
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (Status status = AnswerOnce(chat, flags, line); !status) {
      // A question that does not fit is no reason to lose the conversation.
      if (status.error().code != ErrorCode::kInvalidArgument) return status;
      PrintError(status.error().message + "\n");
    }
  }
}

Status Run(const RunFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  app::ChatOptions options = flags.chat;
  TANDEM_ASSIGN_OR_RETURN(options.engine, flags.engine.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto file, app::FindModelFile(data_dir, flags.model));
  TANDEM_ASSIGN_OR_RETURN(options.model, PackOnce(data_dir, file));
  TANDEM_ASSIGN_OR_RETURN(auto chat, app::TerminalChat::Open(options));
  if (flags.has_prompt) return AnswerOnce(chat.get(), flags, flags.prompt);
  if (::isatty(STDIN_FILENO) != 0) return Converse(chat.get(), flags);
  TANDEM_ASSIGN_OR_RETURN(std::string prompt, ReadStandardInput());
  while (prompt.ends_with('\n')) prompt.pop_back();
  return AnswerOnce(chat.get(), flags, prompt);
}

}  // namespace

void AddRunCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<RunFlags>();
  // The most probable answer: a user who compares runs wants the same one.
  flags->chat.sampling.temperature = 0;
  CLI::App* command = app->add_subcommand("run", "Chat with a model in the terminal");
  command->add_option("model", flags->model, "An installed model, such as demo, or a GGUF file")
      ->required();
  CLI::Option* prompt = command->add_option("--prompt", flags->prompt, "Answer this once and exit");
  command->add_option("--system", flags->chat.system, "The system message");
  command->add_option("--max-tokens", flags->chat.max_tokens, "End an answer after so many tokens")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--temperature", flags->chat.sampling.temperature,
                      "0 (default): the most probable answer");
  command->add_option("--top-p", flags->chat.sampling.top_p, "Sample from this share (1)");
  command->add_option("--top-k", flags->chat.sampling.top_k, "Sample from the best k (0: all)");
  command->add_option("--min-p", flags->chat.sampling.min_p, "Relative to the best (0)");
  command->add_option("--repetition-penalty", flags->chat.sampling.repetition_penalty, "1: none");
  command->add_option("--seed", flags->chat.seed, "Same seed, same answer");
  command->add_flag("--verbose", flags->verbose, "Print tokens and rates to standard error");
  flags->engine.Add(command);
  flags->data_dir.Add(command);
  command->callback([flags, prompt, action] {
    flags->has_prompt = prompt->count() > 0;
    *action = [flags] { return Run(*flags); };
  });
}

}  // namespace tandem::cli
