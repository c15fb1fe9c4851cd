// What a person sees while a command works for long, and how they stop it.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"

namespace tandem::cli {

// Turns the first Ctrl-C into a stop request: work that can be stopped ends
// where it does no harm.
class StopOnInterrupt {
 public:
  StopOnInterrupt() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] {
      int number = 0;
      sigwait(&signals_, &number);
      source_.request_stop();
    });
  }
  ~StopOnInterrupt() {
    pthread_kill(thread_.native_handle(), SIGINT);
    thread_.join();
  }
  std::stop_token token() const { return source_.get_token(); }

 private:
  sigset_t signals_;
  std::stop_source source_;
  std::thread thread_;
};

// Says on standard error that a model is being packed: on a terminal one line that is drawn over
// itself, elsewhere one line for a model that takes a while, none for a small one.
class PackProgress {
 public:
  // `what`: what to say, such as "packing model.gguf".
  explicit PackProgress(std::string what);
  void Show(uint64_t done_bytes, uint64_t total_bytes);
  void End();

 private:
  const std::string what_;
  const bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

// The model's package below the data directory, made first, with a word on standard error, where it
// is missing. Errors: those of app::Packages::Get.
Result<std::filesystem::path> PackOnce(const std::filesystem::path& data_dir,
                                       const std::filesystem::path& model);

}  // namespace tandem::cli
