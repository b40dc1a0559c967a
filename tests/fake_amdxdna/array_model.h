#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "npu-worker/kernels/host_kernels.h"
#include "npu-worker/product/transaction.h"

namespace tandem::npu {

// A model of an array that runs the product's design (npu-worker/kernels/designs/product.py): it
// executes a transaction as firmware and DMAs would, byte stream by byte stream, and runs the
// kernels as the host compiles them on memories of a core's size. What the hardware would refuse,
// hang on or silently do wrong ends with a sentence. Data only: no clock, one thread.
class ArrayModel {
 public:
  // Where the design's run-time parameter lies in a core's memory: behind the stack.
  static constexpr std::uint32_t kParameterAddress = kCoreStackBytes;

  // The bytes behind a device address, or null where nothing is mapped.
  using Memory = std::function<std::byte*(std::uint64_t address, std::uint64_t bytes)>;

  ArrayModel(const ArrayShape& array, bool int4);

  // Executes `words`; `arguments` are the device addresses of the call's buffers. An empty string,
  // or what went wrong. Wrong in a way that leaves a real array waiting for ever: hung() is true.
  std::string Run(std::span<const std::uint32_t> words, std::span<const std::uint64_t> arguments,
                  const Memory& memory);
  bool hung() const { return hung_; }
  // Chunks that every core has computed, all runs together.
  std::uint64_t chunks_computed() const { return chunks_computed_; }

 private:
  struct Task {
    std::uint32_t descriptor = 0;
    std::uint32_t repeats_left = 0;
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    std::uint64_t done = 0;  // of this repeat
    bool token = false;
  };
  struct Channel {
    std::deque<Task> tasks;
    std::uint32_t tokens = 0;
  };
  struct Shim {
    std::array<std::array<std::uint32_t, kDescriptorWords>, kShimDescriptors> descriptors{};
    std::array<Channel, 2> to_memory;
    std::array<Channel, 2> from_memory;
  };
  struct Core {
    std::uint32_t parameter = 0;
    // The whole data memory: stack, parameter, two of each input, the sums.
    std::unique_ptr<std::byte[], void (*)(void*)> memory{nullptr, nullptr};
    std::byte* weights = nullptr;
    std::byte* activations = nullptr;
    std::byte* sums = nullptr;
  };

  std::string Execute(std::span<const std::uint32_t> op);
  std::string Write(std::uint32_t address, std::uint32_t value);
  std::string WriteCore(std::uint32_t column, std::uint32_t row, std::uint32_t offset,
                        std::uint32_t value);
  std::string WriteShim(std::uint32_t column, std::uint32_t offset, std::uint32_t value);
  std::string Push(std::uint32_t column, Direction direction, std::uint32_t channel,
                   std::uint32_t value);
  std::string Patch(std::span<const std::uint32_t> op);
  std::string WaitToken(std::span<const std::uint32_t> op);
  bool DescriptorBusy(const Shim& shim, std::uint32_t descriptor) const;

  // Computes whole output tiles as long as inputs and room for outputs are there.
  std::string Advance();
  bool Ready(std::uint32_t chunks) const;
  std::string Take(Channel* channel, std::byte* to, std::uint64_t bytes);
  std::string Put(Channel* channel, const std::byte* from, std::uint64_t bytes);
  std::string ComputeTiles(std::uint32_t chunks);
  std::string Idle() const;

  const ArrayShape array_;
  const bool int4_;
  const HostKernels& kernels_;
  std::vector<Shim> shims_;
  std::vector<Core> cores_;  // [column][row]
  std::span<const std::uint64_t> arguments_;
  const Memory* memory_ = nullptr;
  bool hung_ = false;
  std::uint64_t chunks_computed_ = 0;
};

}  // namespace tandem::npu
