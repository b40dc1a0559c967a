#include "cli/cluster_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ClusterOptions WithModel() {
  ClusterOptions options;
  options.model = "/proc/self/exe";  // any file that exists
  return options;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(ClusterOptionsTest, DefaultPlanFollowsTheDevices) {
  ClusterOptions options = WithModel();
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.plan, "gpu");
  EXPECT_THAT(options.workers, ElementsAre(WorkerOptions{"gpu0", "gpu", "auto"}));

  options = WithModel();
  options.npu = "cpu";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.plan, "split");

  options = WithModel();
  options.npu = "cpu";
  options.gpu = "none";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.plan, "npu");
}

TEST(ClusterOptionsTest, SeveralDevicesOfOneRole) {
  ClusterOptions options = WithModel();
  options.gpu = "llvmpipe,auto";
  options.plan = "layers:3,5";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_THAT(options.workers, ElementsAre(WorkerOptions{"gpu0", "gpu", "llvmpipe"},
                                           WorkerOptions{"gpu1", "gpu", "auto"}));
}

TEST(ClusterOptionsTest, SaysWhatIsWrong) {
  ClusterOptions options;
  EXPECT_THAT(Message(FinishOptions(&options)), HasSubstr("--model: expected the path"));
  options.model = "/does/not/exist";
  EXPECT_THAT(Message(FinishOptions(&options)), HasSubstr("'/does/not/exist' does not exist"));
  options = WithModel();
  options.quant = "int3";
  EXPECT_THAT(Message(FinishOptions(&options)),
              HasSubstr("--quant: expected one of bf16, int8, int4, as-is, found 'int3'"));
  options = WithModel();
  options.npu = "tpu";
  EXPECT_THAT(Message(FinishOptions(&options)),
              HasSubstr("--npu: expected one of cpu, xrt, found 'tpu'"));
  options = WithModel();
  options.gpu = "none";
  EXPECT_THAT(Message(FinishOptions(&options)), HasSubstr("at least one device"));
  options = WithModel();
  options.plan = "split";
  EXPECT_THAT(Message(FinishOptions(&options)), HasSubstr("--plan split: expected an NPU"));
  options = WithModel();
  options.gpu = "auto,,auto";
  EXPECT_THAT(Message(FinishOptions(&options)), HasSubstr("--gpu: expected device names"));
}

TEST(ClusterOptionsTest, ConfigurationFile) {
  ClusterOptions options;
  ASSERT_TRUE(
      ApplyConfigJson(
          R"({"model": "m.gguf", "npu": "cpu", "context": 4096, /* a note */ "plan": "split"})",
          "c.json", &options)
          .ok());
  EXPECT_EQ(options.model, "m.gguf");
  EXPECT_EQ(options.context, 4096);
  EXPECT_EQ(options.plan, "split");
}

TEST(ClusterOptionsTest, ConfigurationFileErrorsNameTheKey) {
  ClusterOptions options;
  EXPECT_THAT(Message(ApplyConfigJson("{", "c.json", &options)),
              HasSubstr("configuration c.json: expected JSON"));
  EXPECT_THAT(Message(ApplyConfigJson("[]", "c.json", &options)),
              HasSubstr("expected an object, found array"));
  EXPECT_THAT(Message(ApplyConfigJson(R"({"modle": "x"})", "c.json", &options)),
              HasSubstr("unknown key 'modle'; known are"));
  EXPECT_THAT(Message(ApplyConfigJson(R"({"model": 3})", "c.json", &options)),
              HasSubstr("'model': expected a string, found number"));
  EXPECT_THAT(Message(ApplyConfigJson(R"({"context": -1})", "c.json", &options)),
              HasSubstr("'context': expected a whole number"));
  EXPECT_THAT(Message(ApplyConfigJson(R"({"context": 1.5})", "c.json", &options)),
              HasSubstr("'context': expected a whole number"));
}

}  // namespace
}  // namespace tandem
