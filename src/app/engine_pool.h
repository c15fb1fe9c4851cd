// Loaded models by path: loads on demand, keeps them for a while, and makes room for another one by
// unloading the least recently used that nobody is using.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"

namespace tandem::app {

struct EnginePoolOptions {
  engine::EngineOptions engine;     // for every model; its memory limit is the whole pool's
  size_t max_waiting_loads = 1024;  // requests that wait for a model to be loaded
  // A model that nobody used for so long is unloaded; 0: it stays until room is needed.
  std::chrono::milliseconds keep_alive{0};
  const Clock* clock = nullptr;  // null: the machine's; must outlive the pool and its leases
};

// Thread: any.
class EnginePool {
 private:
  struct Slot;

 public:
  // The right to use an engine; while it lives the engine is not unloaded.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&& other) noexcept;
    ~Lease() { Release(); }

    engine::Engine* operator->() const;
    engine::Engine& operator*() const { return *operator->(); }

   private:
    friend class EnginePool;
    explicit Lease(std::shared_ptr<Slot> slot);
    void Release();
    std::shared_ptr<Slot> slot_;
  };
  using Ready = std::move_only_function<void(Result<Lease>)>;

  // Tests replace the loader; null: engine::Engine::Load.
  using Loader = std::function<Result<std::unique_ptr<engine::Engine>>(
      const std::filesystem::path&, const engine::EngineOptions&)>;

  explicit EnginePool(const EnginePoolOptions& options, Loader loader = nullptr);
  // Loads what still waits, then destroys the engines, which ends their submissions. A lease may
  // live on, but must not be used any more.
  ~EnginePool();

  // Calls `ready` once: at once on this thread where the model is loaded, else later on the loading
  // thread. Errors: those of Engine::Load; kResourceExhausted (param "memory") where it does not
  // fit beside the models in use; kResourceExhausted where too many wait.
  void Acquire(const std::filesystem::path& path, Ready ready);

  // Waits for the load. For the CLI and for start-up.
  Result<Lease> AcquireNow(const std::filesystem::path& path);

  // Sums over the loaded models; the limit is the pool's.
  engine::MemoryFigures memory() const;
  // How one model stands.
  struct ModelFigures {
    bool loaded = false;
    engine::Activity activity;  // of its engine, where it is loaded
    // What could be had for it below the pool's limit: what is free, and what models hold that
    // nobody uses now.
    uint64_t obtainable_bytes = 0;
  };
  ModelFigures Figures(const std::filesystem::path& path) const;
  // Whether that model is loaded now.
  bool loaded(const std::filesystem::path& path) const;

  // Whoever comes from now on gets the model loaded anew; those who use it finish on the old one,
  // which goes when the last of them is done.
  void Retire(const std::filesystem::path& path);
  // Unloads what was retired and is not used any more, and what was not used for keep_alive. A
  // thread of the pool does it now and then. Returns how many.
  int UnloadIdle();

 private:
  struct Slot {
    std::unique_ptr<engine::Engine> engine;
    const Clock* clock = nullptr;
    std::atomic<int> users{0};
    std::atomic<SteadyTime> idle_since{};  // when the last user left
    uint64_t last_used = 0;                // guarded by the pool's mutex
  };
  struct Job {
    std::filesystem::path path;
    Ready ready;
  };

  std::shared_ptr<Slot> FindLocked(const std::filesystem::path& path);
  Result<Lease> Load(const std::filesystem::path& path);
  // Unloads the least recently used idle model. False where every one is in use.
  bool UnloadOne();
  void RunLoader();
  void RunJanitor(const std::stop_token& stop);

  const EnginePoolOptions options_;
  const Clock* const clock_;
  const Loader loader_;
  const uint64_t limit_bytes_;
  mutable std::mutex mutex_;
  std::map<std::filesystem::path, std::shared_ptr<Slot>> slots_;
  std::vector<std::shared_ptr<Slot>> retired_;
  std::condition_variable_any retirement_;  // notified when something is retired
  uint64_t uses_ = 0;                       // a clock for last_used
  BoundedQueue<Job> jobs_;
  std::jthread loader_thread_;
  std::jthread janitor_thread_;  // last: it uses all above
};

}  // namespace tandem::app
