#include "lib/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// A step of a model is hundreds of short loops with little between them. Waking a thread costs as
// much as such a loop takes, so a thread looks for the next one this long before it sleeps.
constexpr std::chrono::microseconds kSpin{40};

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks until done() or until kSpin is over; true: done.
template <typename Done>
bool SpinUntil(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

// A loop is open while its caller works. Workers enter an open loop and are counted; the caller
// closes it when no index is left and waits for those that entered, never for one that still wakes.
struct ThreadPool::State {
  // The loop's state in one word: whether it is open, and how many workers are in it.
  static constexpr std::uint32_t kOpen = 1u << 31;

  std::mutex turn;  // one ParallelFor at a time
  // Changes with every loop; sleeping workers wait on it.
  std::atomic<std::uint32_t> round{0};
  // The caller waits on it for the workers to leave.
  std::atomic<std::uint32_t> loop{0};
  std::atomic<bool> stop{false};
  // Of the open loop.
  const std::function<void(std::int64_t, std::int64_t, int)>* fn = nullptr;
  std::int64_t count = 0;
  std::int64_t grain = 1;
  std::atomic<std::int64_t> next{0};
  // False where there are more threads than processors: a thread that looks would hold up another.
  bool spin = false;
  std::vector<std::thread> workers;

  void Work(int worker) {
    while (true) {
      const std::int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) return;
      (*fn)(begin, std::min(begin + grain, count), worker);
    }
  }

  bool Enter() {
    std::uint32_t now = loop.load(std::memory_order_relaxed);
    while ((now & kOpen) != 0) {
      if (loop.compare_exchange_weak(now, now + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }

  void Leave() {
    // The last one out of a closed loop wakes the caller.
    if (loop.fetch_sub(1, std::memory_order_release) == 1) loop.notify_one();
  }

  // Returns when another round than `seen` has begun, and which.
  std::uint32_t NextRound(std::uint32_t seen) const {
    const auto begun = [&] { return round.load(std::memory_order_acquire) != seen; };
    if (!spin || !SpinUntil(begun)) round.wait(seen, std::memory_order_acquire);
    return round.load(std::memory_order_acquire);
  }

  void Loop(int worker) {
    std::uint32_t seen = 0;
    while (true) {
      seen = NextRound(seen);
      if (stop.load(std::memory_order_relaxed)) return;
      if (!Enter()) continue;
      Work(worker);
      Leave();
    }
  }

  void BeginRound() {
    round.fetch_add(1, std::memory_order_release);
    round.notify_all();
  }

  void Close() {
    std::uint32_t left = loop.fetch_and(~kOpen, std::memory_order_acquire) & ~kOpen;
    if (left == 0) return;
    const auto empty = [&] { return loop.load(std::memory_order_acquire) == 0; };
    if (spin && SpinUntil(empty)) return;
    while ((left = loop.load(std::memory_order_acquire)) != 0) loop.wait(left);
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  TANDEM_CHECK(threads >= 1);
  state_->spin = static_cast<unsigned>(threads) <= std::thread::hardware_concurrency();
  for (int i = 1; i < threads; ++i)
    state_->workers.emplace_back([s = state_.get(), i] { s->Loop(i); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_relaxed);
  state_->BeginRound();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::ParallelFor(std::int64_t count, std::int64_t grain,
                             const std::function<void(std::int64_t, std::int64_t, int)>& fn) {
  TANDEM_CHECK(grain >= 1);
  if (count <= 0) return;
  State& s = *state_;
  std::lock_guard turn(s.turn);
  if (s.workers.empty() || count <= grain) {
    fn(0, count, 0);
    return;
  }
  s.fn = &fn;
  s.count = count;
  s.grain = grain;
  s.next.store(0, std::memory_order_relaxed);
  s.loop.store(State::kOpen, std::memory_order_release);
  s.BeginRound();
  s.Work(0);
  s.Close();
}

}  // namespace tandem
