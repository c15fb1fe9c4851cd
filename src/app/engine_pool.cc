#include "app/engine_pool.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "os/memory.h"

namespace tandem::app {
namespace {

uint64_t LimitOrMachine(uint64_t limit_bytes) {
  if (limit_bytes != 0) return limit_bytes;
  const auto status = os::ReadMemoryStatus();
  return status ? status->limit_bytes : 0;
}

// Not the pool's own: a lease that outlives the pool reads the time once more.
const Clock* MachineClock() {
  static const RealClock clock;
  return &clock;
}

}  // namespace

EnginePool::Lease::Lease(std::shared_ptr<Slot> slot) : slot_(std::move(slot)) {
  slot_->users.fetch_add(1);
}

EnginePool::Lease& EnginePool::Lease::operator=(Lease&& other) noexcept {
  std::swap(slot_, other.slot_);
  return *this;
}

void EnginePool::Lease::Release() {
  // The engine itself is only ever destroyed by the pool: a lease may end on the engine's own
  // scheduler thread, which could not join itself.
  if (slot_) {
    slot_->idle_since = slot_->clock->Now();
    slot_->users.fetch_sub(1);
  }
  slot_.reset();
}

engine::Engine* EnginePool::Lease::operator->() const {
  TANDEM_CHECK(slot_ != nullptr);
  return slot_->engine.get();
}

EnginePool::EnginePool(const EnginePoolOptions& options, Loader loader)
    : options_(options),
      clock_(options_.clock != nullptr ? options_.clock : MachineClock()),
      loader_(loader ? std::move(loader) : Loader(engine::Engine::Load)),
      limit_bytes_(LimitOrMachine(options_.engine.memory_limit_bytes)),
      jobs_(options_.max_waiting_loads),
      loader_thread_([this] { RunLoader(); }),
      janitor_thread_([this](const std::stop_token& stop) { RunJanitor(stop); }) {}

EnginePool::~EnginePool() {
  jobs_.Close();
  loader_thread_.join();
  janitor_thread_.request_stop();
  janitor_thread_.join();
  // Engines end their submissions while their slots are still there for the leases behind them.
  for (auto& [path, slot] : slots_) slot->engine.reset();
  for (auto& slot : retired_) slot->engine.reset();
}

std::shared_ptr<EnginePool::Slot> EnginePool::FindLocked(const std::filesystem::path& path) {
  const auto found = slots_.find(path);
  if (found == slots_.end()) return nullptr;
  found->second->last_used = ++uses_;
  return found->second;
}

void EnginePool::Acquire(const std::filesystem::path& path, Ready ready) {
  std::unique_lock lock(mutex_);
  if (auto slot = FindLocked(path)) {
    Lease lease(std::move(slot));
    lock.unlock();
    ready(std::move(lease));
    return;
  }
  lock.unlock();
  Job job{path, std::move(ready)};
  if (!jobs_.TryPush(std::move(job))) {
    // NOLINTNEXTLINE(bugprone-use-after-move): a refused item is untouched
    job.ready(Err(ErrorCode::kResourceExhausted,
                  "too many requests wait for a model to be loaded; try again later"));
  }
}

Result<EnginePool::Lease> EnginePool::AcquireNow(const std::filesystem::path& path) {
  std::promise<Result<Lease>> promise;
  auto future = promise.get_future();
  Acquire(path, [&](Result<Lease> lease) { promise.set_value(std::move(lease)); });
  return future.get();
}

void EnginePool::RunLoader() {
  while (auto job = jobs_.Pop()) job->ready(Load(job->path));
}

Result<EnginePool::Lease> EnginePool::Load(const std::filesystem::path& path) {
  {
    // Several requests may have waited for the same model; the first one loaded it.
    std::lock_guard lock(mutex_);
    if (auto slot = FindLocked(path)) return Lease(std::move(slot));
  }
  engine::EngineOptions engine_options = options_.engine;
  // A full context is worth more than models that nobody uses now; a short one than no answer.
  engine_options.shrink_context = false;
  while (true) {
    const engine::MemoryFigures used = memory();
    const uint64_t taken = used.weights_bytes + used.kv_cache_bytes + used.scratch_bytes;
    // An engine that is given nothing must not read 0 as "no limit".
    engine_options.memory_limit_bytes = limit_bytes_ > taken ? limit_bytes_ - taken : 1;
    auto loaded = loader_(path, engine_options);
    if (!loaded && loaded.error().code == ErrorCode::kResourceExhausted) {
      if (UnloadOne()) continue;
      if (!engine_options.shrink_context && options_.engine.shrink_context) {
        engine_options.shrink_context = true;
        continue;
      }
      Error error = std::move(loaded).error();
      error.param = "memory";
      return std::unexpected(std::move(error));
    }
    if (!loaded) return std::unexpected(std::move(loaded).error());
    auto slot = std::make_shared<Slot>();
    slot->engine = std::move(*loaded);
    slot->clock = clock_;
    slot->idle_since = clock_->Now();
    log::Info("loaded {} ({}, {})", slot->engine->info().name, slot->engine->info().architecture,
              slot->engine->info().quantization);
    std::lock_guard lock(mutex_);
    slot->last_used = ++uses_;
    slots_[path] = slot;
    return Lease(std::move(slot));
  }
}

void EnginePool::Retire(const std::filesystem::path& path) {
  {
    std::lock_guard lock(mutex_);
    const auto found = slots_.find(path);
    if (found == slots_.end()) return;
    retired_.push_back(std::move(found->second));
    slots_.erase(found);
  }
  retirement_.notify_all();
}

int EnginePool::UnloadIdle() {
  std::vector<std::shared_ptr<Slot>> victims;
  {
    std::lock_guard lock(mutex_);
    const auto unused = [](const std::shared_ptr<Slot>& slot) { return slot->users.load() == 0; };
    for (auto& slot : retired_) {
      if (unused(slot)) victims.push_back(std::move(slot));
    }
    std::erase(retired_, nullptr);
    for (auto it = slots_.begin(); it != slots_.end();) {
      const bool idle = options_.keep_alive.count() > 0 && unused(it->second) &&
                        clock_->Now() - it->second->idle_since.load() >= options_.keep_alive;
      if (idle) victims.push_back(std::move(it->second));
      it = idle ? slots_.erase(it) : std::next(it);
    }
  }
  for (const auto& victim : victims) {
    log::Info("unloading {}, which nobody uses", victim->engine->info().name);
  }
  return static_cast<int>(victims.size());
}

void EnginePool::RunJanitor(const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kOften{500};  // while somebody finishes on an old engine
  constexpr std::chrono::milliseconds kSeldom{60'000};
  while (!stop.stop_requested()) {
    UnloadIdle();
    std::unique_lock lock(mutex_);
    if (!retired_.empty()) {
      retirement_.wait_for(lock, stop, kOften, [] { return false; });
    } else if (options_.keep_alive.count() > 0) {
      const auto pause = std::clamp(options_.keep_alive / 4, kOften, kSeldom);
      retirement_.wait_for(lock, stop, pause, [&] { return !retired_.empty(); });
    } else {
      retirement_.wait(lock, stop, [&] { return !retired_.empty(); });
    }
  }
}

bool EnginePool::UnloadOne() {
  if (UnloadIdle() > 0) return true;
  std::shared_ptr<Slot> victim;
  {
    std::lock_guard lock(mutex_);
    auto oldest = slots_.end();
    for (auto it = slots_.begin(); it != slots_.end(); ++it) {
      if (it->second->users.load() > 0) continue;
      if (oldest == slots_.end() || it->second->last_used < oldest->second->last_used) oldest = it;
    }
    if (oldest == slots_.end()) return false;
    victim = std::move(oldest->second);
    slots_.erase(oldest);
  }
  log::Info("unloading {} to make room", victim->engine->info().name);
  return true;
}

engine::MemoryFigures EnginePool::memory() const {
  engine::MemoryFigures sum;
  std::lock_guard lock(mutex_);
  const auto add = [&](const Slot& slot) {
    const engine::MemoryFigures one = slot.engine->memory();
    sum.weights_bytes += one.weights_bytes;
    sum.kv_cache_bytes += one.kv_cache_bytes;
    sum.scratch_bytes += one.scratch_bytes;
  };
  for (const auto& [path, slot] : slots_) add(*slot);
  for (const auto& slot : retired_) add(*slot);
  sum.limit_bytes = limit_bytes_;
  return sum;
}

EnginePool::ModelFigures EnginePool::Figures(const std::filesystem::path& path) const {
  ModelFigures figures;
  uint64_t in_use = 0;
  std::lock_guard lock(mutex_);
  for (const auto& [other, slot] : slots_) {
    if (other == path) {
      figures.loaded = true;
      figures.activity = slot->engine->activity();
    } else if (slot->users.load() > 0) {
      const engine::MemoryFigures one = slot->engine->memory();
      in_use += one.weights_bytes + one.kv_cache_bytes + one.scratch_bytes;
    }
  }
  figures.obtainable_bytes = limit_bytes_ > in_use ? limit_bytes_ - in_use : 0;
  return figures;
}

bool EnginePool::loaded(const std::filesystem::path& path) const {
  std::lock_guard lock(mutex_);
  return slots_.contains(path);
}

}  // namespace tandem::app
