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

#include "npu-worker/product/transaction.h"
#include "tests/fake_amdxdna/array_design.h"

namespace tandem::npu {

// A model of an array that runs one of the designs (npu-worker/kernels/designs): it executes a
// transaction as firmware and DMAs would, byte stream by byte stream, and has the design's cores
// run the kernels as the host compiles them. What the hardware would refuse, hang on or silently do
// wrong ends with a sentence. Data only: no clock, one thread.
class ArrayModel : private ArrayStreams {
 public:
  // The bytes behind a device address, or null where nothing is mapped.
  using Memory = std::function<std::byte*(std::uint64_t address, std::uint64_t bytes)>;

  ArrayModel(const ArrayShape& array, std::unique_ptr<ArrayDesign> design);

  // Executes `words`; `arguments` are the device addresses of the call's buffers. An empty string,
  // or what went wrong. Wrong in a way that leaves a real array waiting for ever: hung() is true.
  std::string Run(std::span<const std::uint32_t> words, std::span<const std::uint64_t> arguments,
                  const Memory& memory);
  bool hung() const { return hung_; }

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
  std::string Execute(std::span<const std::uint32_t> op);
  std::string Write(std::uint32_t address, std::uint32_t value);
  std::string WriteShim(std::uint32_t column, std::uint32_t offset, std::uint32_t value);
  std::string Push(std::uint32_t column, Direction direction, std::uint32_t channel,
                   std::uint32_t value);
  std::string Patch(std::span<const std::uint32_t> op);
  std::string WaitToken(std::span<const std::uint32_t> op);
  bool DescriptorBusy(const Shim& shim, std::uint32_t descriptor) const;

  std::uint64_t Left(std::uint32_t column, Direction direction,
                     std::uint32_t channel) const override;
  std::string Take(std::uint32_t column, std::uint32_t channel, std::byte* to,
                   std::uint64_t bytes) override;
  std::string Put(std::uint32_t column, std::uint32_t channel, const std::byte* from,
                  std::uint64_t bytes) override;
  std::string Idle() const;

  const ArrayShape array_;
  const std::unique_ptr<ArrayDesign> design_;
  std::vector<Shim> shims_;
  std::span<const std::uint64_t> arguments_;
  const Memory* memory_ = nullptr;
  bool hung_ = false;
};

}  // namespace tandem::npu
