#include "net/io_threads.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>

#include "base/check.h"
#include "base/log.h"
#include "net/internal/io_loop.h"

namespace tandem::net {
namespace {

using internal::IoLoop;
using WorkGuard = boost::asio::executor_work_guard<boost::asio::io_context::executor_type>;

thread_local const IoLoop* current_loop = nullptr;

void RunLoop(const std::shared_ptr<IoLoop>& loop) {
  current_loop = loop.get();
  for (;;) {
    try {
      loop->context.run();
      return;
    } catch (const std::exception& e) {
      // Memory ran out inside a handler: that connection is lost, the others are not.
      log::Error("an I/O handler failed: {}", e.what());
    }
  }
}

}  // namespace

struct IoThreads::Impl {
  std::vector<std::shared_ptr<IoLoop>> loops;
  std::vector<WorkGuard> guards;
  std::vector<std::thread> threads;
  std::atomic<unsigned> next{0};
};

IoThreads::IoThreads(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::shared_ptr<IoThreads>> IoThreads::Start(int n_threads) {
  if (n_threads < 1) {
    return Err(ErrorCode::kInvalidArgument, "{} I/O threads: at least one is needed", n_threads);
  }
  std::shared_ptr<IoThreads> io(new IoThreads(std::make_unique<Impl>()));
  try {
    for (int i = 0; i < n_threads; ++i) {
      auto loop = std::make_shared<IoLoop>();
      io->impl_->guards.emplace_back(loop->context.get_executor());
      io->impl_->loops.push_back(loop);
      io->impl_->threads.emplace_back([loop] { RunLoop(loop); });
    }
  } catch (const std::system_error& e) {
    return Err(ErrorCode::kIo,
               "cannot start an I/O thread: {}; is a limit (ulimit -n, -u) reached?", e.what());
  }
  return io;
}

IoThreads::~IoThreads() {
  TANDEM_CHECK(!OnOneOfTheseThreads());
  impl_->guards.clear();
  for (std::thread& thread : impl_->threads) thread.join();
}

int IoThreads::size() const { return static_cast<int>(impl_->loops.size()); }

const std::shared_ptr<IoLoop>& IoThreads::loop(int index) {
  return impl_->loops[static_cast<size_t>(index)];
}

const std::shared_ptr<IoLoop>& IoThreads::CurrentOrNextLoop() {
  for (const auto& loop : impl_->loops) {
    if (loop.get() == current_loop) return loop;
  }
  return impl_->loops[impl_->next++ % impl_->loops.size()];
}

void IoThreads::RunOnEveryLoop(const std::function<void(int index)>& action) {
  TANDEM_CHECK(!OnOneOfTheseThreads());
  // Shared: the last thread to finish still holds the lock when the waiter sees zero.
  struct Countdown {
    std::mutex mutex;
    std::condition_variable done;
    int left;
  };
  const auto countdown = std::make_shared<Countdown>();
  countdown->left = size();
  for (int i = 0; i < size(); ++i) {
    boost::asio::post(loop(i)->context, [&action, i, countdown] {
      action(i);
      std::lock_guard lock(countdown->mutex);
      if (--countdown->left == 0) countdown->done.notify_all();
    });
  }
  std::unique_lock lock(countdown->mutex);
  countdown->done.wait(lock, [&] { return countdown->left == 0; });
}

bool IoThreads::OnOneOfTheseThreads() const {
  for (const auto& loop : impl_->loops) {
    if (loop.get() == current_loop) return true;
  }
  return false;
}

}  // namespace tandem::net
