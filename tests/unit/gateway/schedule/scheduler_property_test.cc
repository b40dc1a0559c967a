// Random requests, options, cancellations and resets against a worker that answers out of the
// blocks it was given.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <set>

#include "gateway/schedule/scheduler.h"
#include "tests/simulation/fake_model.h"

namespace tandem {
namespace {

class Trial {
 public:
  explicit Trial(std::uint64_t seed)
      : random_(seed), options_(MakeOptions()), scheduler_(options_) {}

  void Go() {
    StartWorker();
    while (submitted_ < kRequests || scheduler_.running() + scheduler_.waiting() > 0) {
      ASSERT_LT(++steps_, 40000) << "no end";
      while (submitted_ < kRequests && Pick(0, 3) == 0) Submit();
      if (Pick(0, 60) == 0 && submitted_ > 0) Cancel();
      Collect();
      StepPlan step;
      if (Pick(0, 2) > 0 && scheduler_.Schedule(&step)) {
        CheckDecodesAreServed(step);
        in_flight_.push_back(std::move(step));
      }
      ASSERT_LE(in_flight_.size(), static_cast<std::size_t>(options_.steps_in_flight));
      if (Pick(0, 60) == 0) {
        scheduler_.Reset({0, absl::UnavailableError("reset")});
        in_flight_.clear();
        StartWorker();
      } else if (!in_flight_.empty() && Pick(0, 1) == 0) {
        RunOne();
      }
      Collect();
      if (::testing::Test::HasFailure()) return;
    }
    Collect();
    for (const auto& [id, request] : requests_)
      EXPECT_TRUE(finished_.contains(id)) << "request " << id << " never finished";
    EXPECT_EQ(scheduler_.global_pool().taken(), 0);
    EXPECT_EQ(scheduler_.window_pool().taken(), 0);
    EXPECT_EQ(scheduler_.global_pool().unreserved(), options_.global_blocks);
    EXPECT_EQ(scheduler_.window_pool().unreserved(), options_.window_blocks);
  }

 private:
  static constexpr std::uint64_t kRequests = 25;

  std::int32_t Pick(std::int32_t least, std::int32_t most) {
    return std::uniform_int_distribution<std::int32_t>(least, most)(random_);
  }

  SchedulerOptions MakeOptions() {
    SchedulerOptions options;
    options.limits.max_sequences = Pick(1, 6);
    options.limits.max_tokens = options.limits.max_sequences + Pick(0, 60);
    options.limits.max_logit_rows = options.limits.max_sequences + Pick(0, 8);
    options.limits.max_blocks_per_sequence = Pick(8, 20);
    options.context_tokens = 200;
    options.vocab_size = model_.vocab_size;
    options.hidden_size = model_.hidden_size;
    options.sliding_window = Pick(1, 60);
    options.global_blocks = Pick(8, 40);
    options.window_blocks = Pick(8, 40);
    options.max_waiting = Pick(1, 8);
    options.mixed_prefill_tokens = Pick(1, 40);
    options.max_replays = 1000;
    options.steps_in_flight = Pick(1, 4);
    options.micro_batches = Pick(1, 3);
    options.min_micro_batch_tokens = Pick(1, 6);
    options.eos_ids = {model_.eos_id};
    return options;
  }

  void RunOne() {
    absl::StatusOr<StepResult> result = worker_->Run(in_flight_.front());
    in_flight_.pop_front();
    ASSERT_TRUE(result.ok()) << result.status();
    if (Pick(0, 30) == 0) Cancel();
    const absl::Status status = scheduler_.Update(&*result);
    ASSERT_TRUE(status.ok()) << status;
  }

  void StartWorker() {
    worker_ = std::make_unique<FakeWorkerState>(model_, options_.limits, options_.sliding_window,
                                                options_.global_blocks, options_.window_blocks);
  }

  void Submit() {
    GenerationRequest request;
    request.score_prompt = Pick(0, 3) == 0;
    request.pool_prompt = Pick(0, 3) == 0;
    request.max_tokens = Pick(request.score_prompt || request.pool_prompt ? 0 : 1, 80);
    request.ignore_eos = Pick(0, 1) == 0;
    request.sampling.seed = static_cast<std::uint64_t>(Pick(0, 1000));
    const std::int32_t length = Pick(1, 100);
    for (std::int32_t i = 0; i < length; ++i)
      request.prompt.push_back(Pick(2, model_.vocab_size - 1));
    const absl::Status status = scheduler_.Add(submitted_, request);
    if (status.ok()) requests_.emplace(submitted_, std::move(request));
    ++submitted_;
  }

  void Cancel() {
    scheduler_.Cancel(static_cast<std::uint64_t>(Pick(0, static_cast<std::int32_t>(submitted_))));
  }

  // Whoever has sampled and not finished samples in every step.
  void CheckDecodesAreServed(const StepPlan& step) {
    std::int32_t decodes = 0;
    for (const SequenceShare& share : step.sequences)
      decodes += share.tokens.size() == 1 && share.sample ? 1 : 0;
    // With steps in flight, or while a culprit is sought, not everybody who decodes can go on.
    if (in_flight_.empty() && !scheduler_.searching()) {
      EXPECT_GE(decodes, static_cast<std::int32_t>(decoding_.size()));
    }
    if (decodes > 0) {
      EXPECT_LE(step.prefill_tokens, options_.mixed_prefill_tokens);
    }
  }

  void Collect() {
    scheduler_.TakeEvents(&events_);
    for (RequestEvent& event : events_) {
      ASSERT_FALSE(finished_.contains(event.request));
      FakeText& text = texts_[event.request];
      switch (event.kind) {
        case RequestEvent::Kind::kPromptScores:
          ASSERT_TRUE(text.tokens.empty() && scored_.insert(event.request).second);
          text.scores = std::move(event.scores);
          break;
        case RequestEvent::Kind::kPooled:
          ASSERT_TRUE(text.tokens.empty() && pooled_.insert(event.request).second);
          text.pooled = std::move(event.pooled);
          break;
        case RequestEvent::Kind::kToken:
          text.tokens.push_back(event.token.token);
          decoding_.insert(event.request);
          break;
        case RequestEvent::Kind::kFinish:
          decoding_.erase(event.request);
          finished_.insert(event.request);
          CheckText(event, text);
          break;
      }
    }
    // A reset: they prefill again.
    if (!scheduler_.running()) decoding_.clear();
  }

  void CheckText(const RequestEvent& event, const FakeText& text) {
    FakeText expected = Expect(model_, requests_.at(event.request));
    if (event.reason == FinishReason::kCancelled) {
      ASSERT_LE(text.tokens.size(), expected.tokens.size());
      expected.tokens.resize(text.tokens.size());
    } else {
      EXPECT_EQ(event.reason, expected.reason);
      EXPECT_EQ(text.pooled, expected.pooled);
      ASSERT_EQ(text.scores.size(), expected.scores.size());
      for (std::size_t i = 0; i < text.scores.size(); ++i)
        EXPECT_EQ(text.scores[i].logprob, expected.scores[i].logprob);
    }
    EXPECT_EQ(text.tokens, expected.tokens) << "request " << event.request;
  }

  FakeModel model_;
  std::mt19937_64 random_;
  SchedulerOptions options_;
  Scheduler scheduler_;
  std::unique_ptr<FakeWorkerState> worker_;
  std::deque<StepPlan> in_flight_;
  std::vector<RequestEvent> events_;
  std::uint64_t submitted_ = 0;
  int steps_ = 0;
  std::map<std::uint64_t, GenerationRequest> requests_;
  std::map<std::uint64_t, FakeText> texts_;
  std::set<std::uint64_t> scored_;
  std::set<std::uint64_t> pooled_;
  std::set<std::uint64_t> finished_;
  std::set<std::uint64_t> decoding_;
};

TEST(SchedulerProperty, EveryRequestGetsItsTextAndEveryBlockComesBack) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Trial(seed).Go();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace tandem
