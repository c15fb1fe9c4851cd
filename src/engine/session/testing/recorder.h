// A sink for tests that writes down what it hears.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/session/submission.h"

namespace tandem::session::testing {

// Writes down one submission's events. Thread: any.
class Recorder {
 public:
  // The recorder must outlive the submission. `on_event` runs after the event was written down.
  EventSink Sink(std::move_only_function<void(const Event&)> on_event = nullptr) {
    return [this, on_event = std::move(on_event)](Event event) mutable {
      Add(event);
      if (on_event) on_event(event);
    };
  }

  // Waits for the terminal event.
  void Wait() const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return n_terminal_ > 0; });
  }
  // Waits until so many tokens have arrived, or the end.
  void WaitForTokens(size_t n) const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return token_ids_.size() >= n || n_terminal_ > 0; });
  }

  std::string text() const { return Locked(text_); }
  std::vector<int32_t> token_ids() const { return Locked(token_ids_); }
  std::vector<TextDelta> deltas() const { return Locked(deltas_); }
  std::optional<Finished> finished() const { return Locked(finished_); }
  std::optional<Error> failed() const { return Locked(failed_); }
  int n_terminal() const { return Locked(n_terminal_); }
  bool late_event() const {
    return Locked(late_event_);
  }  // something came after the terminal event

 private:
  template <typename T>
  T Locked(const T& value) const {
    const std::lock_guard lock(mutex_);
    return value;
  }

  void Add(const Event& event) {
    const std::lock_guard lock(mutex_);
    late_event_ |= n_terminal_ > 0;
    if (const auto* delta = std::get_if<TextDelta>(&event)) {
      text_ += delta->text;
      token_ids_.insert(token_ids_.end(), delta->token_ids.begin(), delta->token_ids.end());
      deltas_.push_back(*delta);
    } else {
      ++n_terminal_;
      if (const auto* finished = std::get_if<Finished>(&event)) finished_ = *finished;
      if (const auto* failed = std::get_if<Failed>(&event)) failed_ = failed->error;
    }
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::string text_;
  std::vector<int32_t> token_ids_;
  std::vector<TextDelta> deltas_;
  std::optional<Finished> finished_;
  std::optional<Error> failed_;
  int n_terminal_ = 0;
  bool late_event_ = false;
};

}  // namespace tandem::session::testing
