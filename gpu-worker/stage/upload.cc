#include "gpu-worker/stage/upload.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "lib/base/deadline.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::uint64_t kPieceBytes = 16 << 20;
// Of where pieces begin.
constexpr std::uint64_t kAlignment = 64;
// What a thread copies at once.
constexpr std::uint64_t kShareBytes = 1 << 20;
// More do not copy faster.
constexpr int kMostThreads = 8;

}  // namespace

absl::Status Uploader::Prepare() {
  if (threads_ != nullptr) return absl::OkStatus();
  const std::uint64_t most = device_.physical().max_allocation_bytes / kPieces;
  piece_bytes_ = std::min(kPieceBytes, most / kAlignment * kAlignment);
  TANDEM_ASSIGN_OR_RETURN(
      staging_, vulkan::Buffer::Create(device_, kPieces * piece_bytes_, vulkan::Placement::kStaging,
                                       "staging buffer"));
  TANDEM_ASSIGN_OR_RETURN(timeline_, vulkan::Timeline::Create(device_));
  for (std::size_t i = 0; i < kPieces; ++i) pieces_[i] = {i * piece_bytes_, 0};
  sent_ = 0;
  threads_ = std::make_unique<ThreadPool>(
      std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMostThreads));
  return absl::OkStatus();
}

absl::Status Uploader::Send(const Piece& piece, std::uint64_t bytes, const vulkan::Buffer& to,
                            std::uint64_t at) {
  TANDEM_ASSIGN_OR_RETURN(vulkan::CommandBuffer commands, commands_.Begin());
  commands.Copy({staging_.handle(), piece.offset, bytes}, {to.handle(), at, bytes});
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  const VkCommandBuffer handle = commands.handle();
  return device_.Submit({&handle, 1}, timeline_.handle(), sent_ + 1, commands_.queue());
}

absl::Status Uploader::Upload(std::span<const std::byte> bytes, const vulkan::Buffer& to) {
  TANDEM_CHECK(bytes.size() <= to.bytes());
  const std::lock_guard lock(mutex_);
  TANDEM_RETURN_IF_ERROR(Prepare());
  // Of this upload: its command buffers go with it.
  TANDEM_ASSIGN_OR_RETURN(commands_,
                          vulkan::CommandPool::Create(device_, vulkan::Queue::kTransfer));
  absl::Status status;
  std::size_t turn = 0;
  for (std::uint64_t at = 0; at < bytes.size() && status.ok(); at += piece_bytes_) {
    Piece& piece = pieces_[turn++ % kPieces];
    status = timeline_.Wait(piece.read_at, Deadline::Never());
    if (!status.ok()) break;
    const std::span<const std::byte> from =
        bytes.subspan(at, std::min<std::uint64_t>(piece_bytes_, bytes.size() - at));
    std::byte* const staged = staging_.data() + piece.offset;
    threads_->ParallelFor(static_cast<std::int64_t>(CeilDiv(from.size(), kShareBytes)), 1,
                          [from, staged](std::int64_t begin, std::int64_t end, int) {
                            const auto first = static_cast<std::uint64_t>(begin) * kShareBytes;
                            const std::uint64_t last = std::min<std::uint64_t>(
                                static_cast<std::uint64_t>(end) * kShareBytes, from.size());
                            std::memcpy(staged + first, from.data() + first, last - first);
                          });
    status = Send(piece, from.size(), to, at);
    if (status.ok()) piece.read_at = ++sent_;
  }
  // Whatever runs still reads the staging memory.
  const absl::Status drained = timeline_.Wait(sent_, Deadline::Never());
  return status.ok() ? drained : status;
}

void Uploader::Release() {
  const std::lock_guard lock(mutex_);
  threads_.reset();
  staging_ = {};
  commands_ = {};
  timeline_ = {};
}

}  // namespace tandem
