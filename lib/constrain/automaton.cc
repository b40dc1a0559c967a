#include "lib/constrain/automaton.h"

#include <algorithm>
#include <utility>

namespace tandem {
namespace {

// Below every stack.
constexpr std::int32_t kNoFrame = 0;

std::size_t Mix(std::size_t hash, std::uint64_t value) {
  std::uint64_t x = (hash ^ value) * 0x9E3779B97F4A7C15u;
  x ^= x >> 32;
  return static_cast<std::size_t>(x);
}

}  // namespace

std::size_t Automaton::FrameHash::operator()(const Frame& frame) const {
  const auto part = [](std::int32_t value) { return static_cast<std::uint32_t>(value); };
  return Mix(Mix(Mix(0, part(frame.op)), part(frame.count)), part(frame.parent));
}

Automaton::Automaton(GrammarProgram program, Bounds bounds)
    : program_(std::move(program)), bounds_(bounds), frames_(1) {
  Refresh();
}

Automaton::State Automaton::start() {
  if (start_ >= 0) return start_;
  Follow(program_.start, kNoFrame);
  return start_ = Intern();
}

Automaton::State Automaton::Step(State state, std::uint8_t byte) {
  if (work_left_ <= 0 || memory_ > bounds_.memory_bytes) return kExhausted;
  const StateData from = states_[static_cast<std::size_t>(state)];
  work_left_ -= static_cast<std::int64_t>(from.count);
  bool followed = true;
  for (std::size_t i = from.first; i < from.first + from.count && followed; ++i) {
    const GrammarOp& op = OpOf(ways_[i]);
    if (program_.sets[static_cast<std::size_t>(op.index)][byte])
      followed = Follow(op.next, FrameOf(ways_[i]));
  }
  const State next = Intern();
  if (next == kExhausted) return next;
  std::unique_ptr<Row>& row = rows_[static_cast<std::size_t>(state)];
  if (row == nullptr) {
    row = std::make_unique<Row>();
    row->fill(kUnknown);
    memory_ += sizeof(Row);
  }
  (*row)[byte] = next;
  return next;
}

std::int32_t Automaton::Push(const Frame& frame) {
  const auto [it, added] = frame_ids_.emplace(frame, static_cast<std::int32_t>(frames_.size()));
  if (added) {
    frames_.push_back(frame);
    // With what the map takes.
    memory_ += 4 * sizeof(Frame);
  }
  return it->second;
}

void Automaton::Open(std::int32_t op, std::int32_t frame) {
  if (!program_.ops[static_cast<std::size_t>(op)].alive) return;
  todo_.push_back(MakeWay(op, frame));
}

void Automaton::FollowRepeat(std::int32_t repeat, std::int32_t count, std::int32_t parent) {
  const GrammarOp& op = program_.ops[static_cast<std::size_t>(repeat)];
  if (op.most == kUnbounded) count = std::min(count, op.least);
  if (count >= op.least) Open(op.next, parent);
  if (op.most == kUnbounded || count < op.most)
    Open(op.other, Push({.op = repeat, .count = count, .parent = parent}));
}

void Automaton::FollowOne(Way way) {
  const GrammarOp& op = OpOf(way);
  const std::int32_t frame = FrameOf(way);
  switch (op.kind) {
    case GrammarOp::Kind::kBytes:
      reading_.push_back(way);
      return;
    case GrammarOp::Kind::kSplit:
      Open(op.next, frame);
      Open(op.other, frame);
      return;
    case GrammarOp::Kind::kCall: {
      // A rule that ends with another one leaves nothing behind: lists may go on for ever.
      const bool last =
          program_.ops[static_cast<std::size_t>(op.next)].kind == GrammarOp::Kind::kReturn;
      if (program_.ops[static_cast<std::size_t>(op.next)].alive)
        Open(op.other, last ? frame : Push({.op = op.next, .parent = frame}));
      return;
    }
    case GrammarOp::Kind::kReturn: {
      if (frame == kNoFrame) {
        whole_ = true;
        return;
      }
      const Frame top = frames_[static_cast<std::size_t>(frame)];
      return Open(top.op, top.parent);
    }
    case GrammarOp::Kind::kRepeat:
      return FollowRepeat(static_cast<std::int32_t>(way >> 32), 0, frame);
    case GrammarOp::Kind::kRepeatEnd: {
      const Frame top = frames_[static_cast<std::size_t>(frame)];
      return FollowRepeat(op.other, top.count + 1, top.parent);
    }
  }
}

bool Automaton::Follow(std::int32_t op, std::int32_t frame) {
  Open(op, frame);
  while (!todo_.empty()) {
    const Way way = todo_.back();
    todo_.pop_back();
    const auto place = std::lower_bound(seen_.begin(), seen_.end(), way);
    if (place != seen_.end() && *place == way) continue;
    // Moving what stands behind is work, too.
    work_left_ -= 1 + (seen_.end() - place) / 8;
    seen_.insert(place, way);
    if (seen_.size() > 8 * bounds_.ways || reading_.size() > bounds_.ways || work_left_ <= 0) {
      work_left_ = 0;
      return false;
    }
    FollowOne(way);
  }
  return true;
}

Automaton::State Automaton::Intern() {
  const bool failed = work_left_ <= 0;
  std::vector<Way> ways = std::move(reading_);
  const bool whole = std::exchange(whole_, false);
  reading_.clear();
  seen_.clear();
  todo_.clear();
  if (failed) return kExhausted;
  if (ways.empty() && !whole) return kDead;
  std::sort(ways.begin(), ways.end());
  std::size_t hash = whole ? 1 : 0;
  for (const Way way : ways) hash = Mix(hash, way);
  const auto [begin, end] = state_ids_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const StateData& known = states_[static_cast<std::size_t>(it->second)];
    const auto first = ways_.begin() + static_cast<std::ptrdiff_t>(known.first);
    if (known.whole == whole && known.count == ways.size() &&
        std::equal(ways.begin(), ways.end(), first))
      return it->second;
  }
  const auto state = static_cast<State>(states_.size());
  states_.push_back({.first = ways_.size(), .count = ways.size(), .whole = whole});
  ways_.insert(ways_.end(), ways.begin(), ways.end());
  rows_.emplace_back();
  state_ids_.emplace(hash, state);
  memory_ += sizeof(StateData) + ways.size() * sizeof(Way) + 64;
  return state;
}

int Automaton::OnlyByte(State state) const {
  const StateData& data = states_[static_cast<std::size_t>(state)];
  if (data.whole) return -1;
  int only = -1;
  for (std::size_t i = data.first; i < data.first + data.count; ++i) {
    const ByteSet& set = program_.sets[static_cast<std::size_t>(OpOf(ways_[i]).index)];
    if (set.count() != 1) return -1;
    // The one bit that is set.
    const int byte = static_cast<int>(set._Find_first());
    if (only >= 0 && only != byte) return -1;
    only = byte;
  }
  return only;
}

}  // namespace tandem
