// Two workers over real gRPC: every plan and every kind of edge gives the answers of one worker
// alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lib/base/dma_buf.h"
#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

const std::vector<std::string> kHostPointer = {"host-pointer"};

struct Answers {
  std::vector<std::int32_t> tokens;  // sampled, both slots in turn
  std::vector<double> pooled;        // of the first prompt's chunks
  std::vector<float> logprobs;  // of scored prompt tokens, then of sampled ones and their best five
};

void Collect(const v1::StepResult& result, Answers* answers) {
  ASSERT_EQ(result.code(), 0) << result.error();
  for (const v1::SequenceResult& sequence : result.sequences()) {
    for (const v1::SampledToken& token : sequence.scored()) {
      answers->logprobs.push_back(token.logprob());
      for (const v1::TokenLogprob& top : token.top()) answers->logprobs.push_back(top.logprob());
    }
    answers->pooled.insert(answers->pooled.end(), sequence.pooled().begin(),
                           sequence.pooled().end());
    if (!sequence.has_sampled()) continue;
    answers->tokens.push_back(sequence.sampled().token());
    answers->logprobs.push_back(sequence.sampled().logprob());
    for (const v1::TokenLogprob& top : sequence.sampled().top())
      answers->logprobs.push_back(top.logprob());
  }
}

// The workers of the plan, with a stream each; a step goes to all of them.
class Streams {
 public:
  Streams(TestCluster& cluster, const Plan& plan, std::int32_t micro_batches)
      : head_(HeadWorkerOf(plan)), routes_(plan.routes.size()), micro_batches_(micro_batches) {
    for (const std::string& name : WorkersOf(plan))
      clients_[name] = std::make_unique<StepsClient>(cluster.worker(name));
  }
  void Send(v1::StepPlan step) {
    Cut(&step);
    const bool decodes =
        std::all_of(step.sequences().begin(), step.sequences().end(),
                    [](const v1::SequenceShare& share) { return share.tokens_size() == 1; });
    step.set_route(routes_ == 1 || decodes ? kDecodeRoute : kPrefillRoute);
    for (auto& [name, client] : clients_) ASSERT_TRUE(client->Send(step));
  }
  v1::StepResult Receive() {
    v1::StepResult head;
    for (auto& [name, client] : clients_) {
      v1::StepResult result = client->Receive();
      EXPECT_EQ(result.code(), 0) << name << ": " << result.error();
      if (name == head_) {
        head = result;
      } else {
        EXPECT_EQ(result.sequences_size(), 0);
      }
    }
    return head;
  }

 private:
  // As many micro-batches as the step has tokens for, of different sizes, inside of shares too.
  void Cut(v1::StepPlan* step) const {
    std::int32_t tokens = 0;
    for (const v1::SequenceShare& share : step->sequences()) tokens += share.tokens_size();
    const std::int32_t count = std::min(tokens, micro_batches_);
    if (micro_batches_ == 1) return;
    for (std::int32_t m = 1; m < count; ++m) {
      step->add_micro_batch_ends(std::max<std::int32_t>(m, tokens * m / (count + 1)));
    }
    step->add_micro_batch_ends(tokens);
  }

  std::string head_;
  std::size_t routes_;
  std::int32_t micro_batches_;
  std::map<std::string, std::unique_ptr<StepsClient>> clients_;
};

// A prompt of 37 tokens in two chunks with scores, a second sequence that joins it, then ten greedy
// tokens each; steps are sent two ahead.
void Generate(TestCluster& cluster, const Plan& plan, std::uint64_t generation, Answers* answers,
              std::int32_t micro_batches = 1) {
  Streams streams(cluster, plan, micro_batches);
  SlotPlanner first(cluster.config(), 0, 0);
  SlotPlanner second(cluster.config(), 2, 10);
  std::vector<std::int32_t> prompt;
  for (std::int32_t i = 0; i < 37; ++i)
    prompt.push_back((i * 31 + 7) % cluster.config().vocab_size);

  std::uint64_t id = 5;
  v1::StepPlan step = NewStep(id++, generation);
  first.Start(&step);
  v1::SequenceShare* share = first.Add(&step, {prompt.begin(), prompt.begin() + 20});
  share->set_score(true);
  share->set_next_token(prompt[20]);
  share->set_pool(true);
  streams.Send(step);

  step = NewStep(id++, generation);
  second.Start(&step)->mutable_sampling()->set_temperature(0.8f);
  share = first.Add(&step, {prompt.begin() + 20, prompt.end()});
  share->set_score(true);
  share->set_sample(true);
  share->set_pool(true);
  second.Add(&step, {3, 1, 4, 1, 5})->set_sample(true);
  streams.Send(step);
  ASSERT_NO_FATAL_FAILURE(Collect(streams.Receive(), answers));
  for (int i = 0; i < 10; ++i) {
    step = NewStep(id++, generation);
    first.Add(&step, {-1})->set_sample(true);
    second.Add(&step, {-1})->set_sample(true);
    streams.Send(step);
    ASSERT_NO_FATAL_FAILURE(Collect(streams.Receive(), answers));
  }
  ASSERT_NO_FATAL_FAILURE(Collect(streams.Receive(), answers));
}

struct PlanCase {
  std::string plan;
  std::vector<std::string> kinds;
  std::string kind_found;
};

class PlansTest : public testing::TestWithParam<PlanCase> {};

TEST_P(PlansTest, EqualsOneWorkerAlone) {
  TestCluster cluster;
  const Plan alone = cluster.PlanOf("npu");
  const grpc::Status first = cluster.Start(alone, 1, {});
  ASSERT_TRUE(first.ok()) << first.error_message();
  Answers expected;
  ASSERT_NO_FATAL_FAILURE(Generate(cluster, alone, 1, &expected));
  ASSERT_EQ(expected.tokens.size(), 22u);
  ASSERT_EQ(expected.logprobs.size(), (36u + 22u) * 6u);

  const Plan plan = cluster.PlanOf(GetParam().plan);
  const grpc::Status second = cluster.Start(plan, 2, GetParam().kinds);
  ASSERT_TRUE(second.ok()) << second.error_message();
  Answers found;
  ASSERT_NO_FATAL_FAILURE(Generate(cluster, plan, 2, &found));
  EXPECT_EQ(found.tokens, expected.tokens);
  ASSERT_EQ(found.logprobs.size(), expected.logprobs.size());
  for (std::size_t i = 0; i < found.logprobs.size(); ++i)
    EXPECT_NEAR(found.logprobs[i], expected.logprobs[i], 1e-4) << i;
  ASSERT_EQ(found.pooled.size(), 2 * static_cast<std::size_t>(cluster.config().hidden_size));
  for (std::size_t i = 0; i < found.pooled.size(); ++i)
    EXPECT_NEAR(found.pooled[i], expected.pooled[i], 1e-3) << i;

  const v1::WorkerDescription npu = cluster.worker("npu0").Describe();
  const v1::WorkerDescription gpu = cluster.worker("gpu0").Describe();
  EXPECT_EQ(npu.generation(), 2u);
  EXPECT_EQ(npu.plan(), GetParam().plan);
  EXPECT_EQ(npu.steps_done(), 12u);
  ASSERT_EQ(npu.edges_size(), 2);
  ASSERT_EQ(gpu.edges_size(), 2);
  for (const v1::EdgeDescription& mine : npu.edges()) {
    for (const v1::EdgeDescription& theirs : gpu.edges()) {
      if (mine.id() != theirs.id()) continue;
      EXPECT_EQ(mine.kind(), GetParam().kind_found);
      EXPECT_EQ(mine.kind(), theirs.kind());
      EXPECT_EQ(mine.sequence(), theirs.sequence());
      // 12 steps; a hand-over for each layer of `split`, one of `layers`; of `hybrid` in the two
      // steps that prefill.
      const std::string& name = GetParam().plan;
      EXPECT_EQ(mine.sequence(), name == "split" ? 36u : name == "hybrid" ? 8u : 12u);
      const bool same_file = mine.inode() == theirs.inode() && mine.device() == theirs.device();
      EXPECT_EQ(same_file, mine.kind() != "inline");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, PlansTest,
    testing::Values(PlanCase{"split", {"host-pointer"}, "host-pointer"},
                    PlanCase{"split", {"inline"}, "inline"},
                    PlanCase{"split",
                             {"dma-buf", "host-pointer"},
                             LargestDmaBuf() != 0 ? "dma-buf" : "host-pointer"},
                    PlanCase{"hybrid", {"host-pointer"}, "host-pointer"},
                    PlanCase{"hybrid", {"inline"}, "inline"},
                    PlanCase{"layers", {"host-pointer", "inline"}, "host-pointer"},
                    PlanCase{"layers", {"inline"}, "inline"}),
    [](const auto& info) {
      std::string name = info.param.plan;
      for (const std::string& kind : info.param.kinds) {
        name += "_";
        for (const char c : kind) name += c == '-' ? '_' : c;
      }
      return name;
    });

// Two and three micro-batches a step give the very numbers of whole steps, and the edges count on.
TEST(MicroBatchTest, EqualWholeStepsBitForBit) {
  TestCluster cluster;
  std::uint64_t generation = 1;
  for (const std::string name : {"npu", "split", "layers:2,1", "hybrid"}) {
    const Plan plan = cluster.PlanOf(name);
    Answers whole;
    ASSERT_TRUE(cluster.Start(plan, generation, kHostPointer).ok());
    ASSERT_NO_FATAL_FAILURE(Generate(cluster, plan, generation, &whole));
    for (const std::int32_t micro_batches : {2, 3}) {
      ++generation;
      ASSERT_TRUE(cluster.Start(plan, generation, kHostPointer).ok());
      Answers cut;
      ASSERT_NO_FATAL_FAILURE(Generate(cluster, plan, generation, &cut, micro_batches));
      EXPECT_EQ(cut.tokens, whole.tokens) << name << ", " << micro_batches;
      EXPECT_EQ(cut.logprobs, whole.logprobs) << name << ", " << micro_batches;
      EXPECT_EQ(cut.pooled, whole.pooled) << name << ", " << micro_batches;
      if (name != "split") continue;
      // 3 layers; 12 steps, the last 10 of which have two tokens alone.
      const std::uint64_t hand_overs = 3 * (2 * static_cast<std::uint64_t>(micro_batches) + 10 * 2);
      EXPECT_EQ(cluster.worker("npu0").Describe().edges(0).sequence(), hand_overs);
      EXPECT_EQ(cluster.worker("gpu0").Describe().edges(1).sequence(), hand_overs);
    }
    ++generation;
  }
}

TEST(TraceTest, AWorkerTellsWhatItRan) {
  TestCluster cluster;
  const Plan plan = cluster.PlanOf("split");
  ASSERT_TRUE(cluster.Start(plan, 1, kHostPointer).ok());
  const auto read = [&](std::uint64_t next) {
    grpc::ClientContext context;
    v1::ProcessTraceRequest request;
    request.set_next(next);
    v1::ProcessTrace trace;
    EXPECT_TRUE(cluster.worker("npu0").stub().Trace(&context, request, &trace).ok());
    return trace;
  };
  const v1::ProcessTrace before = read(0);
  EXPECT_EQ(before.op_size(), 0);
  Answers answers;
  ASSERT_NO_FATAL_FAILURE(Generate(cluster, plan, 1, &answers, 2));
  const v1::ProcessTrace trace = read(before.next());
  EXPECT_EQ(trace.process(), "npu0");
  ASSERT_EQ(trace.stages_size(), 3);
  EXPECT_EQ(trace.stages(1), "attention 1");
  EXPECT_EQ(trace.edges_size(), 2);
  std::map<std::pair<std::uint64_t, int>, int> runs;
  for (int i = 0; i < trace.op_size(); ++i) {
    if (trace.op(i) == v1::TRACE_RUN) ++runs[{trace.step_id(i), trace.micro_batch(i)}];
  }
  // 12 steps of two micro-batches, each through three stages.
  EXPECT_EQ(runs.size(), 24u);
  for (const auto& [key, count] : runs) EXPECT_EQ(count, 3);
  EXPECT_EQ(read(trace.next()).op_size(), 0);
}

TEST(RegionsTest, AreKeptFromOnePrepareToTheNext) {
  TestCluster cluster;
  const Plan plan = cluster.PlanOf("npu");
  ASSERT_TRUE(cluster.Start(plan, 1, {}).ok());
  EXPECT_EQ(cluster.worker("npu0").Describe().weights_size(), 7);
  cluster.StopRegionServer();
  const grpc::Status again = cluster.Start(plan, 2, {});
  EXPECT_TRUE(again.ok()) << again.error_message();

  grpc::ClientContext context;
  v1::PrepareRequest other = cluster.PrepareRequestFor("npu0", plan, 3);
  other.set_fingerprint("another model");
  v1::PrepareResponse response;
  const grpc::Status status = cluster.worker("npu0").stub().Prepare(&context, other, &response);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.error_message().find("region 'embedding'"), std::string::npos)
      << status.error_message();
  EXPECT_EQ(cluster.worker("npu0").lost(), 0);
}

TEST(DescribeTest, SaysWhatTheWorkerIs) {
  TestCluster cluster;
  const v1::WorkerDescription fresh = cluster.worker("gpu0").Describe();
  EXPECT_EQ(fresh.name(), "gpu0");
  EXPECT_EQ(fresh.role(), "gpu");
  EXPECT_EQ(fresh.device().kind(), "cpu");
  EXPECT_EQ(fresh.generation(), 0u);
  EXPECT_FALSE(fresh.host().empty());
  EXPECT_GT(fresh.memory().host_pointer().import_bytes(), 0u);
  const Plan plan = cluster.PlanOf("split");
  ASSERT_TRUE(cluster.Start(plan, 9, kHostPointer).ok());
  const v1::WorkerDescription gpu = cluster.worker("gpu0").Describe();
  std::vector<std::string> stages;
  for (const v1::StageDescription& stage : gpu.stages()) stages.push_back(stage.name());
  EXPECT_EQ(stages.size(), 4u);
  EXPECT_EQ(stages.front(), "embed");
  EXPECT_EQ(gpu.kv_cache_bytes(), 0u);
  EXPECT_GT(cluster.worker("npu0").Describe().kv_cache_bytes(), 0u);
}

}  // namespace
}  // namespace tandem
