// tandem tokenize, tandem logits.
#include <memory>
#include <string>

#include <fmt/format.h>

#include "app/inspect.h"
#include "app/models.h"
#include "cli/command.h"
#include "os/file.h"

namespace tandem::cli {
namespace {

constexpr size_t kMaxInputFileBytes = size_t{1} << 30;

struct TokenizeFlags {
  std::string source;
  std::string file;
  app::TokenizeOptions options;
  DataDirOption data_dir;
};

Status RunTokenize(const TokenizeFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  app::TokenizeOptions options = flags.options;
  TANDEM_ASSIGN_OR_RETURN(options.source, app::FindModelFile(data_dir, flags.source));
  options.json_lines = !flags.file.empty();
  std::string input;
  if (options.json_lines) {
    TANDEM_ASSIGN_OR_RETURN(input, os::ReadFile(flags.file, kMaxInputFileBytes));
  } else {
    TANDEM_ASSIGN_OR_RETURN(input, ReadStandardInput());
  }
  // Decoded text is printed as it is; everything else is a line.
  const bool bare = options.decode && !options.json_lines;
  return app::Tokenize(options, input, [&](std::string_view line) {
    return bare ? Print(line) : Print(fmt::format("{}\n", line));
  });
}

struct LogitsFlags {
  std::string model;
  std::string tokens;
  app::LogitsOptions options;
  EngineFlags engine;
  DataDirOption data_dir;
};

Status RunLogits(const LogitsFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  app::LogitsOptions options = flags.options;
  TANDEM_ASSIGN_OR_RETURN(options.model, app::FindModelFile(data_dir, flags.model));
  TANDEM_ASSIGN_OR_RETURN(options.engine, flags.engine.Get());
  auto tokens = app::ParseTokenIds(flags.tokens);
  if (!tokens) return Wrap(std::move(tokens).error(), "--tokens");
  options.tokens = std::move(*tokens);
  if (options.out.empty() && options.greedy == 0) {
    return Err(ErrorCode::kInvalidArgument, "nothing to do: give --out FILE, --greedy N or both");
  }
  TANDEM_ASSIGN_OR_RETURN(const auto greedy, app::WriteLogits(options));
  if (options.greedy == 0) return {};
  return Print(app::FormatTokenIds(greedy) + "\n");
}

}  // namespace

void AddTokenizeCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command = app->add_subcommand("tokenize", "Token ids of text on standard input");
  command
      ->add_option("source", flags->source, "A GGUF file, a tokenizer.json or an installed model")
      ->required();
  command->add_option("--file", flags->file,
                      "JSON lines with \"text\" or \"utf8_hex\" instead of standard input");
  command->add_flag("--decode", flags->options.decode, "From ids (a JSON array) to text");
  command->add_flag("--chat", flags->options.chat,
                    "Input is a JSON array of messages; prints the prompt's ids");
  command->add_flag("--special", flags->options.specials,
                    "Markers such as <|user|> in the text become special tokens");
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunTokenize(*flags); }; });
}

void AddLogitsCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<LogitsFlags>();
  CLI::App* command = app->add_subcommand("logits", "A model's raw output for given tokens");
  command->add_option("model", flags->model, "A GGUF file or an installed model")->required();
  command->add_option("--tokens", flags->tokens, "Token ids: 1,2,3")->required();
  command->add_option("--out", flags->options.out,
                      "Receives raw little-endian float32, one row of the vocabulary a token");
  command->add_option("--greedy", flags->options.greedy, "Print the N most probable next ids")
      ->check(CLI::NonNegativeNumber);
  flags->engine.Add(command);
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunLogits(*flags); }; });
}

}  // namespace tandem::cli
