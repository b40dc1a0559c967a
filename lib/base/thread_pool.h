#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace tandem {

// A fixed set of threads for data-parallel loops. `ParallelFor` may be called by one thread at a
// time (others wait their turn) and the caller works too; it returns when every index is done. Work
// is handed out in chunks of `grain`. No allocation per call.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // >= 1, the caller counted in
  ~ThreadPool();
  int threads() const;
  // fn(begin, end, worker): worker in [0, threads()) names the scratch the callee may use.
  void ParallelFor(std::int64_t count, std::int64_t grain,
                   const std::function<void(std::int64_t begin, std::int64_t end, int worker)>& fn);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem
