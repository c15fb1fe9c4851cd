#include "fleet/depot/upload_sink.h"

#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace tandem::fleet {

// Shared with the work that is under way. One worker at a time has the upload.
struct UploadSink::State {
  Uploads* uploads = nullptr;
  Workers* workers = nullptr;
  std::function<void()> resume;
  std::unique_ptr<Upload> upload;

  std::mutex mutex;  // guards what follows
  std::string pending;
  bool scheduled = false;
  bool paused = false;
  std::optional<Error> failure;
  Written written;
};

UploadSink::UploadSink(std::unique_ptr<Upload> upload, Uploads* uploads, Workers* workers,
                       std::function<void()> resume)
    : state_(std::make_shared<State>()) {
  state_->uploads = uploads;
  state_->workers = workers;
  state_->resume = std::move(resume);
  state_->upload = std::move(upload);
}

UploadSink::~UploadSink() {
  std::unique_lock lock(state_->mutex);
  if (!state_->scheduled && !state_->upload) return;  // WhenWritten has it, or had it
  const bool unclaimed = !state_->written;
  lock.unlock();
  if (!unclaimed) return;
  WhenWritten([uploads = state_->uploads](Result<std::unique_ptr<Upload>> upload) {
    if (upload) uploads->Put(*std::move(upload));
  });
}

bool UploadSink::Take(std::string_view bytes) {
  const std::lock_guard lock(state_->mutex);
  if (state_->failure) return true;  // nothing will come of it: let the rest of the body pass
  state_->pending.append(bytes);
  Schedule(state_);
  state_->paused = state_->pending.size() >= kMaxPendingBytes && !state_->failure;
  return !state_->paused;
}

void UploadSink::WhenWritten(Written written) {
  const std::lock_guard lock(state_->mutex);
  state_->written = std::move(written);
  Schedule(state_);
}

// The caller holds the lock.
void UploadSink::Schedule(const std::shared_ptr<State>& state) {
  if (state->scheduled) return;
  state->scheduled = state->workers->Post([state] { Drain(state); });
  if (state->scheduled) return;
  state->failure = Error{ErrorCode::kResourceExhausted, "too much waits for the disk", {}};
  state->pending = {};
  // Nobody will answer for it: dropping the answer's owner does.
  state->written = nullptr;
}

void UploadSink::Drain(const std::shared_ptr<State>& state) {
  std::string bytes;
  while (true) {
    bool resume = false;
    {
      std::unique_lock lock(state->mutex);
      bytes.clear();
      bytes.swap(state->pending);
      resume = std::exchange(state->paused, false);
      if (bytes.empty() || state->failure) {
        state->scheduled = false;
        Written written = std::exchange(state->written, nullptr);
        Result<std::unique_ptr<Upload>> result = nullptr;
        if (written) result = std::move(state->upload);
        if (state->failure) result = std::unexpected(*state->failure);
        lock.unlock();
        if (resume) state->resume();
        if (written) written(std::move(result));
        return;
      }
    }
    if (resume) state->resume();
    const Status appended = state->upload->Append(bytes);
    if (appended) continue;
    const std::lock_guard lock(state->mutex);
    state->failure = appended.error();
    state->upload.reset();
  }
}

}  // namespace tandem::fleet
