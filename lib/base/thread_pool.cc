#include "lib/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "lib/base/status_macros.h"

namespace tandem {

struct ThreadPool::State {
  std::mutex turn;  // one ParallelFor at a time
  std::mutex mutex;
  std::condition_variable start;
  std::condition_variable done;
  std::uint64_t round = 0;
  int running = 0;  // threads still in the present round
  bool stop = false;
  const std::function<void(std::int64_t, std::int64_t, int)>* fn = nullptr;
  std::int64_t count = 0;
  std::int64_t grain = 1;
  std::atomic<std::int64_t> next{0};
  std::vector<std::thread> workers;

  void Work(int worker) {
    while (true) {
      const std::int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) return;
      (*fn)(begin, std::min(begin + grain, count), worker);
    }
  }

  void Loop(int worker) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex);
    while (true) {
      start.wait(lock, [&] { return stop || round != seen; });
      if (stop) return;
      seen = round;
      lock.unlock();
      Work(worker);
      lock.lock();
      if (--running == 0) done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  TANDEM_CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i)
    state_->workers.emplace_back([s = state_.get(), i] { s->Loop(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->start.notify_all();
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
  {
    std::lock_guard lock(s.mutex);
    s.fn = &fn;
    s.count = count;
    s.grain = grain;
    s.next.store(0, std::memory_order_relaxed);
    s.running = static_cast<int>(s.workers.size());
    ++s.round;
  }
  s.start.notify_all();
  s.Work(0);
  std::unique_lock lock(s.mutex);
  s.done.wait(lock, [&] { return s.running == 0; });
}

}  // namespace tandem
