#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "lib/constrain/grammar_program.h"

namespace tandem {

// Runs a GrammarProgram over bytes, all open ways at once, and remembers what it found: a state is
// the set of open ways, each an instruction and a stack; states, stacks and transitions are made
// when they are first met and kept. So it is fast where text has been before, whatever the grammar.
// Every state but kDead can be continued to a whole text.
//
// What a hostile grammar can cost is bounded: the ways of a state, the memory of all of them, and
// the work between two calls of Refresh. Where a bound is met, Next gives kExhausted, and goes on
// giving it until Refresh, or (memory) for good. One thread at a time.
class Automaton {
 public:
  using State = std::int32_t;
  static constexpr State kDead = -1;
  static constexpr State kExhausted = -2;

  struct Bounds {
    std::size_t ways = 1024;
    std::size_t memory_bytes = std::size_t{64} << 20;
    // Instructions followed between two calls of Refresh.
    std::int64_t work = 4'000'000;
  };
  Automaton(GrammarProgram program, Bounds bounds);
  explicit Automaton(GrammarProgram program) : Automaton(std::move(program), Bounds()) {}

  // Before anything was read.
  State start();
  State Next(State state, std::uint8_t byte) {
    if (state < 0) return state;
    const Row* row = rows_[static_cast<std::size_t>(state)].get();
    const State next = row == nullptr ? kUnknown : (*row)[byte];
    return next == kUnknown ? Step(state, byte) : next;
  }
  // What was read is a whole text.
  bool IsWhole(State state) const { return states_[static_cast<std::size_t>(state)].whole; }
  // It is, and nothing can follow.
  bool IsFinal(State state) const {
    return IsWhole(state) && states_[static_cast<std::size_t>(state)].count == 0;
  }
  // The only byte that can come, or -1 where there are several, none, or the text may end.
  int OnlyByte(State state) const;

  void Refresh() { work_left_ = bounds_.work; }
  // As a number of bytes, roughly.
  std::size_t memory() const { return memory_; }

 private:
  static constexpr State kUnknown = -3;
  using Row = std::array<State, 256>;

  // What runs after the end of a rule, or how often the repeat at `op` has run its body.
  struct Frame {
    std::int32_t op = 0;
    std::int32_t count = 0;
    std::int32_t parent = 0;
    bool operator==(const Frame&) const = default;
  };
  struct FrameHash {
    std::size_t operator()(const Frame& frame) const;
  };
  // An instruction that reads, and the frame on top of its stack; one number, to sort and compare.
  using Way = std::uint64_t;
  struct StateData {
    // Into ways_.
    std::size_t first = 0;
    std::size_t count = 0;
    bool whole = false;
  };

  static Way MakeWay(std::int32_t op, std::int32_t frame) {
    return static_cast<Way>(static_cast<std::uint32_t>(op)) << 32 |
           static_cast<std::uint32_t>(frame);
  }
  const GrammarOp& OpOf(Way way) const { return program_.ops[static_cast<std::size_t>(way >> 32)]; }
  static std::int32_t FrameOf(Way way) { return static_cast<std::int32_t>(way & 0xFFFFFFFFu); }

  State Step(State state, std::uint8_t byte);
  std::int32_t Push(const Frame& frame);
  // Adds what can be read when `op` runs with this stack.
  bool Follow(std::int32_t op, std::int32_t frame);
  void FollowOne(Way way);
  void FollowRepeat(std::int32_t repeat, std::int32_t count, std::int32_t parent);
  void Open(std::int32_t op, std::int32_t frame);
  // The state of what Follow has added.
  State Intern();

  const GrammarProgram program_;
  const Bounds bounds_;
  std::vector<Frame> frames_;
  std::unordered_map<Frame, std::int32_t, FrameHash> frame_ids_;
  std::vector<StateData> states_;
  // Null until a byte is read from the state.
  std::vector<std::unique_ptr<Row>> rows_;
  std::vector<Way> ways_;
  std::unordered_multimap<std::size_t, State> state_ids_;
  std::size_t memory_ = 0;
  std::int64_t work_left_ = 0;
  State start_ = kUnknown;

  // Of the state that is being made.
  std::vector<Way> todo_;
  std::vector<Way> seen_;
  std::vector<Way> reading_;
  bool whole_ = false;
};

}  // namespace tandem
