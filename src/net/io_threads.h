// The threads that run sockets. A server and a client that share one IoThreads meet on the same
// thread, so that a relayed chunk crosses no queue.
#pragma once

#include <functional>
#include <memory>

#include "base/error.h"

namespace tandem::net {

namespace internal {
class IoLoop;
}

// N event loops with one thread each. Every connection stays on the loop that it was given to.
// Owners of connections (HttpServer, HttpClient) hold a shared_ptr to their IoThreads; the last
// owner must not let go of it on one of the I/O threads themselves.
class IoThreads {
 public:
  // n_threads: at least 1.
  static Result<std::shared_ptr<IoThreads>> Start(int n_threads);
  ~IoThreads();  // waits until every connection on the loops is closed

  IoThreads(const IoThreads&) = delete;
  IoThreads& operator=(const IoThreads&) = delete;

  int size() const;

  // For the room's own .cc files (internal/io_loop.h).
  const std::shared_ptr<internal::IoLoop>& loop(int index);
  // The loop that runs on the calling thread, or the next one in turn where the caller is not one
  // of these threads.
  const std::shared_ptr<internal::IoLoop>& CurrentOrNextLoop();
  bool OnOneOfTheseThreads() const;
  // Runs `action` with each loop's index on that loop's thread, and returns when all have run. Not
  // on one of these threads.
  void RunOnEveryLoop(const std::function<void(int index)>& action);

 private:
  struct Impl;
  explicit IoThreads(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::net
