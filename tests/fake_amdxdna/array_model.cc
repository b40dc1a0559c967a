#include "tests/fake_amdxdna/array_model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace tandem::npu {

std::string At(const char* what, std::uint32_t column, std::uint32_t value) {
  return std::string(what) + " (column " + std::to_string(column) + ", value " +
         std::to_string(value) + ")";
}

CoreMemory::CoreMemory()
    : bytes_(static_cast<std::byte*>(std::aligned_alloc(64, kCoreMemoryBytes)), std::free) {}

std::byte* CoreMemory::Lay(std::uint32_t bytes) {
  // The array would not even be configured.
  if (used_ + bytes > kCoreMemoryBytes) std::abort();
  std::byte* at = bytes_.get() + used_;
  used_ += bytes;
  return at;
}

namespace {

// Words of an operation, from its first words; 0 when they make no sense.
std::uint64_t OperationWords(std::span<const std::uint32_t> words) {
  const auto word = [&](std::size_t i) { return i < words.size() ? words[i] : 0; };
  switch (static_cast<Operation>(words[0] & 0xff)) {
    case Operation::kWrite:
      return word(5) == 6 * 4 ? 6 : 0;
    case Operation::kMaskWrite:
      return word(6) == 7 * 4 ? 7 : 0;
    case Operation::kBlockWrite:
      return word(3) >= 4 * 4 && word(3) % 4 == 0 ? word(3) / 4 : 0;
    case Operation::kWaitToken:
    case Operation::kPatchAddress:
      return word(1) >= 4 * 4 && word(1) % 4 == 0 ? word(1) / 4 : 0;
  }
  return 0;
}

}  // namespace

ArrayModel::ArrayModel(const ArrayShape& array, std::unique_ptr<ArrayDesign> design)
    : array_(array), design_(std::move(design)), shims_(array.columns) {}

std::string ArrayModel::Run(std::span<const std::uint32_t> words,
                            std::span<const std::uint64_t> arguments, const Memory& memory) {
  if (words.size() < kHeaderWords || words[0] != kHeaderVersion) {
    return "instructions: no transaction header";
  }
  if (words[1] != (1U << 8 | array_.columns)) return "instructions: for an array of another shape";
  if (words[3] % 4 != 0 || words[3] / 4 > words.size() || words[3] < kHeaderWords * 4) {
    return "instructions: " + std::to_string(words[3]) + " bytes, " +
           std::to_string(words.size() * 4) + " are there";
  }
  arguments_ = arguments;
  memory_ = &memory;
  hung_ = false;
  words = words.first(words[3] / 4);
  std::size_t at = kHeaderWords;
  for (std::uint32_t i = 0; i < words[2]; ++i) {
    if (at >= words.size()) return "instructions: fewer operations than the header says";
    const std::uint64_t length = OperationWords(words.subspan(at));
    if (length == 0 || length > words.size() - at) {
      return "instructions: a broken operation at word " + std::to_string(at);
    }
    std::string error = Execute(words.subspan(at, length));
    if (!error.empty()) return error;
    at += length;
  }
  if (at != words.size()) return "instructions: words behind the last operation";
  std::string error = design_->Advance(this);
  return error.empty() ? Idle() : error;
}

std::string ArrayModel::Execute(std::span<const std::uint32_t> op) {
  switch (static_cast<Operation>(op[0] & 0xff)) {
    case Operation::kWrite:
      return Write(op[2], op[4]);
    case Operation::kMaskWrite:
      return "instructions: a masked write, which this design does not use";
    case Operation::kBlockWrite: {
      for (std::size_t i = 4; i < op.size(); ++i) {
        std::string error = Write(op[2] + static_cast<std::uint32_t>(i - 4) * 4, op[i]);
        if (!error.empty()) return error;
      }
      return "";
    }
    case Operation::kPatchAddress:
      return Patch(op);
    case Operation::kWaitToken:
      return WaitToken(op);
  }
  return "instructions: unknown operation";
}

std::string ArrayModel::Write(std::uint32_t address, std::uint32_t value) {
  const std::uint32_t column = address >> kColumnShift;
  const std::uint32_t row = address >> kRowShift & 31;
  const std::uint32_t offset = address & ((1U << kRowShift) - 1);
  if (column >= array_.columns) return At("write outside the partition", column, value);
  if (row == 0) return WriteShim(column, offset, value);
  if (row < kFirstCoreRow) return At("write to a memory tile", column, value);
  if (row - kFirstCoreRow >= array_.rows) return At("write above the array", column, value);
  return design_->WriteCore(column, row - kFirstCoreRow, offset, value);
}

std::string ArrayModel::WriteShim(std::uint32_t column, std::uint32_t offset, std::uint32_t value) {
  Shim& shim = shims_[column];
  if (offset >= ShimDescriptor(0) && offset < ShimDescriptor(kShimDescriptors) && offset % 4 == 0) {
    const std::uint32_t index = (offset - ShimDescriptor(0)) / 0x20;
    if (DescriptorBusy(shim, index)) return At("a descriptor in use is overwritten", column, index);
    shim.descriptors[index][(offset - ShimDescriptor(index)) / 4] = value;
    return "";
  }
  for (const Direction direction : {Direction::kToMemory, Direction::kFromMemory}) {
    for (std::uint32_t channel = 0; channel < 2; ++channel) {
      if (offset == ShimQueue(direction, channel)) return Push(column, direction, channel, value);
    }
  }
  return At("write to an unknown register of the shim", column, offset);
}

bool ArrayModel::DescriptorBusy(const Shim& shim, std::uint32_t descriptor) const {
  const auto uses = [&](const Channel& channel) {
    return std::any_of(channel.tasks.begin(), channel.tasks.end(),
                       [&](const Task& task) { return task.descriptor == descriptor; });
  };
  return std::any_of(shim.to_memory.begin(), shim.to_memory.end(), uses) ||
         std::any_of(shim.from_memory.begin(), shim.from_memory.end(), uses);
}

std::string ArrayModel::Patch(std::span<const std::uint32_t> op) {
  if (op.size() != 12) return "instructions: a patch of another length";
  const std::uint32_t column = op[6] >> kColumnShift;
  const std::uint32_t offset = op[6] & ((1U << kColumnShift) - 1);
  if (column >= array_.columns || offset < ShimDescriptor(0) ||
      offset >= ShimDescriptor(kShimDescriptors) || offset % 0x20 != 4) {
    return At("a patch of something else than a descriptor's address", column, offset);
  }
  if (op[8] >= arguments_.size())
    return At("a patch with a buffer that is not there", column, op[8]);
  const std::uint64_t address = arguments_[op[8]] + op[10];
  auto& descriptor = shims_[column].descriptors[(offset - ShimDescriptor(0)) / 0x20];
  descriptor[1] = static_cast<std::uint32_t>(address);
  descriptor[2] =
      (descriptor[2] & 0xffff0000U) | static_cast<std::uint32_t>(address >> 32 & 0xffff);
  return "";
}

std::string ArrayModel::Push(std::uint32_t column, Direction direction, std::uint32_t channel,
                             std::uint32_t value) {
  std::string error = design_->Advance(this);
  if (!error.empty()) return error;
  Shim& shim = shims_[column];
  Channel& queue = (direction == Direction::kToMemory ? shim.to_memory : shim.from_memory)[channel];
  // One runs, the others wait.
  if (queue.tasks.size() > kQueueDepth) return At("a task for a full queue", column, channel);
  const std::uint32_t index = value & 15;
  const auto& words = shim.descriptors[index];
  if ((words[7] >> 25 & 1) == 0) return At("a descriptor that is not valid", column, index);
  if (words[3] != 0 || (words[4] & 0x3fffffff) != 0 || words[5] != 0 || words[6] != 0) {
    return At("a descriptor with strides, which this design does not use", column, index);
  }
  Task task;
  task.descriptor = index;
  task.repeats_left = (value >> 16 & 0xff) + 1;
  task.address = words[1] | std::uint64_t{words[2] & 0xffff} << 32;
  task.bytes = std::uint64_t{words[0]} * 4;
  task.token = value >> 31 != 0;
  if (task.bytes == 0) return At("an empty transfer", column, index);
  if ((*memory_)(task.address, task.bytes) == nullptr) {
    return At("a transfer outside the buffers: the IOMMU faults", column, index);
  }
  queue.tasks.push_back(task);
  return design_->Advance(this);
}

std::string ArrayModel::WaitToken(std::span<const std::uint32_t> op) {
  if (op.size() != 4) return "instructions: a wait of another length";
  const std::uint32_t column = op[2] >> 16 & 0xff;
  const std::uint32_t channel = op[3] >> 24;
  if (column >= array_.columns || channel >= 2 || (op[2] >> 8 & 0xff) != 0) {
    return At("a wait for a channel that is not there", column, channel);
  }
  std::string error = design_->Advance(this);
  if (!error.empty()) return error;
  Shim& shim = shims_[column];
  Channel& queue = ((op[2] & 0xff) == 0 ? shim.to_memory : shim.from_memory)[channel];
  if (queue.tokens == 0) {
    hung_ = true;
    return At("a wait that never ends", column, channel);
  }
  --queue.tokens;
  return "";
}

std::uint64_t ArrayModel::Left(std::uint32_t column, Direction direction,
                               std::uint32_t channel) const {
  const Shim& shim = shims_[column];
  const Channel& queue =
      (direction == Direction::kToMemory ? shim.to_memory : shim.from_memory)[channel];
  std::uint64_t bytes = 0;
  for (const Task& task : queue.tasks) bytes += task.repeats_left * task.bytes - task.done;
  return bytes;
}

namespace {

// Moves bytes between a channel's tasks and `buffer`, task by task.
template <typename Channel, typename Memory, typename Copy>
std::string Move(Channel* channel, std::uint64_t bytes, const Memory& memory, const Copy& copy) {
  std::uint64_t moved = 0;
  while (moved < bytes) {
    auto& task = channel->tasks.front();
    const std::uint64_t part = std::min(bytes - moved, task.bytes - task.done);
    std::byte* at = memory(task.address + task.done, part);
    if (at == nullptr) return "a buffer went away under a transfer: the IOMMU faults";
    copy(at, moved, part);
    moved += part;
    task.done += part;
    if (task.done == task.bytes) {
      task.done = 0;
      if (--task.repeats_left == 0) {
        channel->tokens += task.token;
        channel->tasks.pop_front();
      }
    }
  }
  return "";
}

}  // namespace

std::string ArrayModel::Take(std::uint32_t column, std::uint32_t channel, std::byte* to,
                             std::uint64_t bytes) {
  return Move(&shims_[column].from_memory[channel], bytes, *memory_,
              [&](const std::byte* at, std::uint64_t moved, std::uint64_t part) {
                std::memcpy(to + moved, at, part);
              });
}

std::string ArrayModel::Put(std::uint32_t column, std::uint32_t channel, const std::byte* from,
                            std::uint64_t bytes) {
  return Move(&shims_[column].to_memory[channel], bytes, *memory_,
              [&](std::byte* at, std::uint64_t moved, std::uint64_t part) {
                std::memcpy(at, from + moved, part);
              });
}

// What is left over in the streams would meet the next call's inputs.
std::string ArrayModel::Idle() const {
  for (std::uint32_t c = 0; c < array_.columns; ++c) {
    for (std::uint32_t channel = 0; channel < 2; ++channel) {
      if (!shims_[c].from_memory[channel].tasks.empty() ||
          !shims_[c].to_memory[channel].tasks.empty()) {
        return At("the instructions end with transfers under way", c, channel);
      }
      if (shims_[c].to_memory[channel].tokens != 0)
        return At("a token that nobody waits for", c, channel);
    }
  }
  return design_->Idle();
}

}  // namespace tandem::npu
