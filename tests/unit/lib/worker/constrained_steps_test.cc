// Requests with a grammar through real workers: under every plan, with steps in flight, with tokens
// that were forced taken at once, and begun again in the middle.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

constexpr std::int32_t kStop = 0;
// Only one text can follow "x", whatever its tokens are.
constexpr char kGrammar[] = "root ::= [abc]{3,6} \"x\" \"mmmmmmmmmmmmmmmmmm\" [yz]{2} \"k\"";

struct Text {
  std::vector<std::int32_t> tokens;
  std::string text;
  // Steps that sampled.
  int steps = 0;
};

class ConstrainedSteps : public testing::TestWithParam<std::string> {
 protected:
  void Start() {
    const grpc::Status status = cluster_.Start(plan_, ++generation_, {"host-pointer", "inline"});
    ASSERT_TRUE(status.ok()) << status.error_message();
    clients_.clear();
    for (const std::string& name : WorkersOf(plan_))
      clients_[name] = std::make_unique<StepsClient>(cluster_.worker(name));
  }
  v1::StepPlan First(const std::string& grammar, const std::vector<std::int32_t>& generated) {
    v1::StepPlan step = NewStep(id_ = 1, generation_);
    planner_ = SlotPlanner(cluster_.config(), 1, 0);
    v1::SequenceStart* start = planner_.Start(&step);
    start->mutable_sampling()->set_temperature(0.9f);
    start->mutable_sampling()->set_seed(11);
    start->mutable_sampling()->set_num_logprobs(-1);
    start->mutable_sampling()->mutable_constraint()->set_grammar(grammar);
    start->mutable_sampling()->mutable_constraint()->add_stop_tokens(kStop);
    std::vector<std::int32_t> tokens = {5, 6, 7, 8, 9};
    for (const std::int32_t token : generated) {
      start->add_generated(token);
      tokens.push_back(token);
    }
    planner_.Add(&step, tokens)->set_sample(true);
    step.set_route(plan_.routes.size() > 1 ? kPrefillRoute : kDecodeRoute);
    return step;
  }
  v1::StepPlan Next(const std::vector<std::int32_t>& tokens) {
    v1::StepPlan step = NewStep(++id_, generation_);
    planner_.Add(&step, tokens)->set_sample(true);
    return step;
  }
  void Send(const v1::StepPlan& step) {
    for (auto& [name, client] : clients_) ASSERT_TRUE(client->Send(step));
  }
  v1::SequenceResult Receive() {
    v1::SequenceResult sequence;
    for (auto& [name, client] : clients_) {
      const v1::StepResult result = client->Receive();
      EXPECT_EQ(result.code(), 0) << result.error();
      if (name == HeadWorkerOf(plan_) && result.sequences_size() == 1)
        sequence = result.sequences(0);
    }
    return sequence;
  }
  void Take(std::int32_t token, Text* text) {
    text->tokens.push_back(token);
    text->text += cluster_.TokenBytes()[static_cast<std::size_t>(token)];
  }

  // Until the stop token; `depth` steps are in flight, or (0) each brings what is forced.
  Text Generate(int depth, const std::vector<std::int32_t>& generated) {
    Text text;
    for (const std::int32_t token : generated) Take(token, &text);
    Start();
    if (HasFatalFailure()) return text;
    Send(First(kGrammar, generated));
    for (int i = 1; i < depth; ++i) Send(Next({-1}));
    for (; text.steps < 60; ++text.steps) {
      const v1::SequenceResult result = Receive();
      EXPECT_EQ(result.code(), 0) << result.error();
      if (result.code() != 0 || result.sampled().token() == kStop) break;
      Take(result.sampled().token(), &text);
      std::vector<std::int32_t> next = {-1};
      for (int i = 0; depth == 0 && i < result.forced_size(); ++i) {
        next.push_back(result.forced(i));
        Take(result.forced(i), &text);
      }
      Send(Next(next));
    }
    return text;
  }

  static bool Fits(const std::string& text) {
    const std::size_t x = text.find('x');
    return x >= 3 && x <= 6 && text.find_first_not_of("abc") == x && text.size() == x + 22 &&
           text.substr(x + 1, 18) == std::string(18, 'm') && text.back() == 'k';
  }

  TestCluster cluster_;
  Plan plan_ = cluster_.PlanOf(GetParam());
  std::map<std::string, std::unique_ptr<StepsClient>> clients_;
  SlotPlanner planner_{cluster_.config(), 1, 0};
  std::uint64_t generation_ = 0;
  std::uint64_t id_ = 0;
};

TEST_P(ConstrainedSteps, KeepTheGrammarAtEveryDepth) {
  const Text one = Generate(1, {});
  EXPECT_TRUE(Fits(one.text)) << one.text;
  for (int depth = 2; depth <= 4; ++depth) {
    const Text more = Generate(depth, {});
    EXPECT_EQ(more.tokens, one.tokens) << "with " << depth << " steps in flight";
  }
}

TEST_P(ConstrainedSteps, JumpOverWhatIsForced) {
  const Text one = Generate(1, {});
  const Text jumping = Generate(0, {});
  EXPECT_TRUE(Fits(jumping.text)) << jumping.text;
  EXPECT_EQ(jumping.tokens, one.tokens);
  EXPECT_LT(jumping.steps, one.steps);
}

// As after a failover, at every place of the text.
TEST_P(ConstrainedSteps, GoOnInTheMiddle) {
  const Text whole = Generate(1, {});
  for (std::size_t kept = 1; kept < whole.tokens.size(); kept += 2) {
    const std::vector<std::int32_t> before(
        whole.tokens.begin(), whole.tokens.begin() + static_cast<std::ptrdiff_t>(kept));
    const Text rest = Generate(2, before);
    EXPECT_EQ(rest.tokens, whole.tokens) << "after " << kept;
  }
}

TEST_P(ConstrainedSteps, AWrongGrammarFailsItsShareAlone) {
  Start();
  Send(First("root ::= nothing", {}));
  const v1::SequenceResult result = Receive();
  EXPECT_NE(result.code(), 0);
  EXPECT_NE(result.error().find("no rule named 'nothing'"), std::string::npos) << result.error();
  EXPECT_TRUE(Fits(Generate(1, {}).text));
}

INSTANTIATE_TEST_SUITE_P(Plans, ConstrainedSteps,
                         testing::Values("npu", "split", "hybrid", "layers"));

}  // namespace
}  // namespace tandem
