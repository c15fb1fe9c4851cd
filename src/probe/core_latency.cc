#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include "probe/probe.h"

namespace tandem::probe {
namespace {

// A batch fits into a slice of CPU time, so that even on a busy machine some run undisturbed.
constexpr int kRoundTrips = 200;
constexpr int kBatches = 100;
constexpr auto kTimeLimit = std::chrono::milliseconds(200);

// The CPUs of this process's affinity mask.
std::vector<int> UsableCpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

bool PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof(set), &set) == 0;
}

// A number that two threads raise in turns, and kOver when no more turns come. It lies alone in its
// cache line.
struct alignas(128) Ball {
  static constexpr int kOver = -1;
  std::atomic<int> hits{0};
};

using Time = std::chrono::steady_clock::time_point;

// Waits until the number is `turn`. False when the game is over, or the time is. The core of the
// other side may be busy with somebody else for long; then this one is given up for whoever wants
// it.
bool AwaitTurn(const Ball& ball, int turn, Time deadline) {
  for (int turns = 0;; ++turns) {
    const int hits = ball.hits.load(std::memory_order_acquire);
    if (hits == turn || hits == Ball::kOver) return hits == turn;
    if (turns < 10'000) continue;
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
}

void Answer(Ball* ball, Time deadline) {
  for (int turn = 1; AwaitTurn(*ball, turn, deadline); turn += 2) {
    ball->hits.store(turn + 1, std::memory_order_release);
  }
}

// Nanoseconds one way, the best batch; 0 where not even one ended in time.
double Serve(Ball* ball, Time deadline) {
  double best = 0;
  int turn = 0;
  for (int batch = 0; batch < kBatches; ++batch) {
    const Time begin = std::chrono::steady_clock::now();
    bool in_time = begin < deadline;
    for (int i = 0; i < kRoundTrips && in_time; ++i, turn += 2) {
      ball->hits.store(turn + 1, std::memory_order_release);
      in_time = AwaitTurn(*ball, turn + 2, deadline);
    }
    if (!in_time) break;
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    const double one_way = took.count() / (2.0 * kRoundTrips);
    if (best == 0 || one_way < best) best = one_way;
  }
  ball->hits.store(Ball::kOver, std::memory_order_release);
  return best;
}

}  // namespace

double CoreToCoreNanoseconds() {
  const std::vector<int> cpus = UsableCpus();
  if (cpus.size() < 2) return 0;
  Ball ball;
  std::atomic<bool> pinned{true};
  double nanoseconds = 0;
  const Time deadline = std::chrono::steady_clock::now() + kTimeLimit;
  try {
    const std::jthread second([&] {
      if (!PinTo(cpus[1])) pinned = false;
      Answer(&ball, deadline);
    });
    // A thread of its own, because the caller is not to be left pinned.
    std::jthread first;
    try {
      first = std::jthread([&] {
        if (!PinTo(cpus[0])) pinned = false;
        nanoseconds = Serve(&ball, deadline);
      });
    } catch (const std::system_error&) {
      ball.hits = Ball::kOver;
    }
  } catch (const std::system_error&) {
    return 0;
  }
  return pinned ? nanoseconds : 0;
}

}  // namespace tandem::probe
