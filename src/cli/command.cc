#include "cli/command.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include "app/byte_size.h"
#include "os/file.h"
#include "os/paths.h"

namespace tandem::cli {

void DataDirOption::Add(CLI::App* command) {
  command->add_option("--data-dir", text,
                      "Where models and keys live (default: $XDG_DATA_HOME/tandem)");
}

Result<std::filesystem::path> DataDirOption::Get() const {
  if (!text.empty()) return std::filesystem::path(text);
  return os::DefaultDataDir();
}

void StateOption::Add(CLI::App* command) {
  data_dir.Add(command);
  command->add_option("--config", config,
                      "The server's configuration, where nodes share a database ([store])");
}

Result<app::StatePlace> StateOption::Get() const {
  TANDEM_ASSIGN_OR_RETURN(auto directory, data_dir.Get());
  if (config.empty()) return app::StatePlace{.data_dir = std::move(directory)};
  TANDEM_ASSIGN_OR_RETURN(const app::Configuration configuration, app::LoadConfiguration(config));
  return app::PlaceOf(configuration, std::move(directory));
}

void EngineFlags::Add(CLI::App* command) {
  command
      ->add_option("--context", options.context_tokens,
                   "Tokens of each conversation's window (default: the model's, at most 4096)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--threads", options.n_threads, "Threads that compute (default: every core)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--memory-limit", memory_limit,
                      "For the whole process, such as 2.1GB (default: the machine's)");
  command->add_option("--kv-type", kv_type, "Keys and values as int8 (default), f16 or f32");
  command->add_option("--speculation", speculation,
                      "Guess tokens ahead: auto (default), off, mtp or ngram");
  command->add_option(
      "--huge-pages", huge_pages,
      "Move the weights to huge pages in the background: off (default), auto: where "
      "memory allows, or on");
}

Result<engine::EngineOptions> EngineFlags::Get() const {
  engine::EngineOptions result = options;
  if (!memory_limit.empty()) {
    auto bytes = app::ParseByteSize(memory_limit);
    if (!bytes) return Wrap(std::move(bytes).error(), "--memory-limit");
    result.memory_limit_bytes = *bytes;
  }
  if (!kv_type.empty()) {
    auto precision = engine::ParseKvPrecision(kv_type);
    if (!precision) return Wrap(std::move(precision).error(), "--kv-type");
    result.kv_precision = *precision;
  }
  if (!speculation.empty()) {
    auto mode = engine::ParseSpeculationMode(speculation);
    if (!mode) return Wrap(std::move(mode).error(), "--speculation");
    result.speculation = *mode;
  }
  if (!huge_pages.empty()) {
    auto mode = engine::ParseHugePages(huge_pages);
    if (!mode) return Wrap(std::move(mode).error(), "--huge-pages");
    result.huge_pages = *mode;
  }
  return result;
}

Status PrintTable(const std::vector<std::string>& header,
                  const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::string& cell : header) widths.push_back(cell.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    text += '\n';
  };
  add(header);
  for (const auto& row : rows) add(row);
  return Print(text);
}

Status Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return ErrnoError(errno, "writing to standard output");
  }
  return {};
}

void PrintError(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void ReserveStandardDescriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // The lower ones are open by now, so that open() hands out this one.
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
      ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
  }
}

Result<std::string> ReadStandardInput() {
  constexpr size_t kMaxBytes = size_t{256} << 20;
  std::string content;
  while (true) {
    const size_t used = content.size();
    content.resize(used + (size_t{64} << 10));
    const ssize_t got = ::read(STDIN_FILENO, content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) {
      content.resize(used);
      continue;
    }
    if (got < 0) return ErrnoError(errno, "reading standard input");
    content.resize(used + static_cast<size_t>(got));
    if (got == 0) return content;
    if (content.size() > kMaxBytes) {
      return Err(ErrorCode::kResourceExhausted, "standard input holds more than {} bytes",
                 kMaxBytes);
    }
  }
}

}  // namespace tandem::cli
