// The body of a request that brings a part of a blob: from the connection's thread to the disk,
// with no more in memory than kMaxPendingBytes and what comes before the client is slowed down.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "fleet/depot/uploads.h"
#include "fleet/depot/workers.h"
#include "net/http_message.h"

namespace tandem::fleet {

class UploadSink final : public net::BodySink {
 public:
  static constexpr size_t kMaxPendingBytes = 1UL << 20;

  // `uploads` and `workers` outlive the sink and its work. Where nobody calls WhenWritten, the
  // upload goes back to `uploads`: its client may go on with it.
  UploadSink(std::unique_ptr<Upload> upload, Uploads* uploads, Workers* workers,
             std::function<void()> resume);
  ~UploadSink() override;

  bool Take(std::string_view bytes) override;

  // Calls once, on a worker, when all that was taken is written: with the upload, or why there is
  // none any more. To be called once, after the last Take.
  using Written = std::move_only_function<void(Result<std::unique_ptr<Upload>>)>;
  void WhenWritten(Written written);

 private:
  struct State;
  static void Drain(const std::shared_ptr<State>& state);
  static void Schedule(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;
};

}  // namespace tandem::fleet
