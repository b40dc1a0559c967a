#include "lib/worker/edge_control.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/futex.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::uint32_t kMagic = 0x47444554;  // "TEDG"
constexpr std::uint32_t kPageVersion = 1;
constexpr std::uint64_t kNoSequence = ~std::uint64_t{0};
constexpr std::uint32_t kProducerClosed = 1;
constexpr std::uint32_t kConsumerClosed = 2;
constexpr absl::Duration kLongestSleep = absl::Seconds(1);

absl::Status CheckLayout(const std::string& name, const ResidualLayout& layout) {
  if (layout.slots >= 1 && layout.slots <= kMaxEdgeSlots) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("edge ", name, ": expected 1 to ", kMaxEdgeSlots,
                                                 " slots, found ", layout.slots));
}

}  // namespace

EdgeControl::EdgeControl(std::string name, EdgeEnd end, UniqueFd fd, Mapping mapping,
                         const ResidualLayout& layout)
    : name_(std::move(name)),
      end_(end),
      fd_(std::move(fd)),
      mapping_(std::move(mapping)),
      page_(reinterpret_cast<EdgeControlPage*>(mapping_.data())),
      slots_(layout.slots),
      max_tokens_(layout.max_tokens) {}

absl::StatusOr<std::unique_ptr<EdgeControl>> EdgeControl::Create(const std::string& name,
                                                                 EdgeEnd end,
                                                                 const ResidualLayout& layout,
                                                                 std::uint64_t generation) {
  TANDEM_RETURN_IF_ERROR(CheckLayout(name, layout));
  TANDEM_ASSIGN_OR_RETURN(
      SharedMemory memory,
      SharedMemory::Create(absl::StrCat("tandem-edge-control-", name), sizeof(EdgeControlPage)));
  TANDEM_RETURN_IF_ERROR(SealSize(memory.fd.get()));
  auto* page = new (memory.mapping.data()) EdgeControlPage{};
  page->magic = kMagic;
  page->version = kPageVersion;
  page->generation = generation;
  page->slot_bytes = layout.slot_bytes;
  page->slots = layout.slots;
  page->max_tokens = layout.max_tokens;
  page->columns = layout.columns;
  for (EdgeControlPage::SlotState& slot : page->slot) slot.sequence.store(kNoSequence);
  return std::unique_ptr<EdgeControl>(
      new EdgeControl(name, end, std::move(memory.fd), std::move(memory.mapping), layout));
}

absl::StatusOr<std::unique_ptr<EdgeControl>> EdgeControl::Open(const std::string& name, EdgeEnd end,
                                                               UniqueFd fd,
                                                               const ResidualLayout& layout,
                                                               std::uint64_t generation) {
  TANDEM_RETURN_IF_ERROR(CheckLayout(name, layout));
  TANDEM_RETURN_IF_ERROR(Annotate(CheckSealedSize(fd.get(), sizeof(EdgeControlPage)),
                                  absl::StrCat("edge ", name, ": control page")));
  TANDEM_ASSIGN_OR_RETURN(Mapping mapping,
                          Mapping::Map(fd.get(), sizeof(EdgeControlPage), /*writable=*/true));
  const auto* page = reinterpret_cast<const EdgeControlPage*>(mapping.data());
  if (page->magic != kMagic || page->version != kPageVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("edge ", name, ": control page: expected version ", kPageVersion,
                     ", found magic ", absl::Hex(page->magic), " version ", page->version));
  }
  if (page->generation != generation) {
    return absl::InvalidArgumentError(absl::StrCat("edge ", name,
                                                   ": control page: expected generation ",
                                                   generation, ", found ", page->generation));
  }
  const ResidualLayout found{page->slots, page->max_tokens, page->columns, page->slot_bytes};
  if (found != layout) {
    return absl::InvalidArgumentError(absl::StrCat("edge ", name, ": control page: expected ",
                                                   layout.slots, " slots of ", layout.max_tokens,
                                                   " x ", layout.columns, ", found ", found.slots,
                                                   " of ", found.max_tokens, " x ", found.columns));
  }
  return std::unique_ptr<EdgeControl>(
      new EdgeControl(name, end, std::move(fd), std::move(mapping), layout));
}

EdgeControl::~EdgeControl() { Close(); }

void EdgeControl::Ring(std::atomic<std::uint32_t>* bell) {
  bell->fetch_add(1);
  FutexWakeAll(bell);
}

void EdgeControl::BeginStep(std::uint64_t sequence) {
  if (end_ == EdgeEnd::kProducer) {
    if (page_->produced.load() >= sequence) return;
    page_->produced.store(sequence);
    Ring(&page_->data_bell);
  } else if (page_->consumed.load() < sequence) {
    page_->consumed.store(sequence);
    Ring(&page_->space_bell);
  }
}

bool EdgeControl::PeerClosed() const {
  return (page_->closed.load() &
          (end_ == EdgeEnd::kProducer ? kConsumerClosed : kProducerClosed)) != 0;
}

// The bell is read before the condition: an event in between changes it and the sleep returns at
// once. So is whether the other end is there: what it did before it went counts.
absl::Status EdgeControl::Wait(const std::atomic<std::uint32_t>& bell, Deadline deadline,
                               const char* what, const std::function<bool()>& ready) {
  while (true) {
    const std::uint32_t seen = bell.load();
    const bool gone = peer_gone_.load();
    const bool closed = PeerClosed();
    if (interrupted_.load())
      return absl::CancelledError(
          absl::StrCat("edge ", name_, ": waiting for ", what, " was interrupted"));
    if (ready()) return absl::OkStatus();
    if (gone)
      return absl::UnavailableError(absl::StrCat("edge ", name_, ": the other worker is gone"));
    if (closed)
      return absl::UnavailableError(absl::StrCat("edge ", name_, ": the other worker closed it"));
    const absl::Duration left = deadline.left();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("edge ", name_, ": expected ", what, " in time, found none"));
    }
    FutexWait(&bell, seen, std::min(left, kLongestSleep));
  }
}

absl::Status EdgeControl::WaitForSpace(std::uint64_t sequence, Deadline deadline) {
  TANDEM_RETURN_IF_ERROR(Wait(page_->space_bell, deadline, "a free slot", [&] {
    return sequence < page_->consumed.load() + static_cast<std::uint64_t>(slots_);
  }));
  if (sequence < page_->consumed.load()) {
    return absl::AbortedError(
        absl::StrCat("edge ", name_, ": the consumer gave up on hand-over ", sequence));
  }
  return absl::OkStatus();
}

void EdgeControl::Publish(std::uint64_t sequence, std::uint64_t step_id, std::int32_t rows) {
  EdgeControlPage::SlotState& slot = page_->slot[SlotOf(sequence)];
  slot.sequence.store(sequence, std::memory_order_relaxed);
  slot.step_id.store(step_id, std::memory_order_relaxed);
  slot.rows.store(rows, std::memory_order_relaxed);
  page_->produced.store(sequence + 1);
  handovers_.fetch_add(1);
  Ring(&page_->data_bell);
}

absl::Status EdgeControl::WaitForData(std::uint64_t sequence, std::uint64_t step_id,
                                      std::int32_t rows, Deadline deadline) {
  TANDEM_RETURN_IF_ERROR(Wait(page_->data_bell, deadline, "the residual",
                              [&] { return page_->produced.load() > sequence; }));
  const EdgeControlPage::SlotState& slot = page_->slot[SlotOf(sequence)];
  if (slot.sequence.load() != sequence) {
    return absl::AbortedError(
        absl::StrCat("edge ", name_, ": the producer gave up on hand-over ", sequence));
  }
  if (slot.step_id.load() != step_id || slot.rows.load() != rows) {
    return absl::InternalError(absl::StrCat("edge ", name_, ": hand-over ", sequence, ": expected ",
                                            rows, " rows of step ", step_id, ", found ",
                                            slot.rows.load(), " of step ", slot.step_id.load()));
  }
  return absl::OkStatus();
}

void EdgeControl::Release(std::uint64_t sequence) {
  page_->consumed.store(sequence + 1);
  handovers_.fetch_add(1);
  Ring(&page_->space_bell);
}

absl::StatusOr<EdgeControl::Arrival> EdgeControl::WaitForNext(std::uint64_t from) {
  for (;; ++from) {
    TANDEM_RETURN_IF_ERROR(Wait(page_->data_bell, Deadline::Never(), "the residual",
                                [&] { return page_->produced.load() > from; }));
    const EdgeControlPage::SlotState& slot = page_->slot[SlotOf(from)];
    if (slot.sequence.load() == from) {
      const Arrival arrival{from, slot.step_id.load(), slot.rows.load()};
      if (arrival.rows >= 1 && arrival.rows <= max_tokens_) return arrival;
      return absl::InternalError(absl::StrCat("edge ", name_, ": hand-over ", from,
                                              ": expected 1 to ", max_tokens_, " rows, found ",
                                              arrival.rows));
    }
    page_->consumed.store(from + 1);  // given up by the producer
    Ring(&page_->space_bell);
  }
}

void EdgeControl::Interrupt() {
  interrupted_.store(true);
  Ring(end_ == EdgeEnd::kProducer ? &page_->space_bell : &page_->data_bell);
}

void EdgeControl::Close() {
  page_->closed.fetch_or(end_ == EdgeEnd::kProducer ? kProducerClosed : kConsumerClosed);
  Ring(&page_->data_bell);
  Ring(&page_->space_bell);
}

void EdgeControl::SetPeerGone() {
  peer_gone_.store(true);
  Ring(end_ == EdgeEnd::kProducer ? &page_->space_bell : &page_->data_bell);
}

}  // namespace tandem
