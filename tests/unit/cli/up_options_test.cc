#include "cli/up_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace tandem {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

UpOptions WithModel() {
  UpOptions options;
  options.loader.model = "/proc/self/exe";  // any file that exists
  return options;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// The error of `tandem up` with these flags, as far as it comes without devices.
std::string ErrorOf(const std::vector<std::string>& arguments) {
  UpOptions options = WithModel();
  FlagList flags;
  AddUpFlags(&flags, &options);
  const auto words = flags.Parse(arguments);
  return Message(words.ok() ? FinishOptions(&options) : words.status());
}

TEST(UpOptionsTest, DefaultPlanFollowsTheDevices) {
  UpOptions options = WithModel();
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.gateway.plan, "gpu");
  EXPECT_THAT(options.workers, ElementsAre(WorkerOptions{"gpu0", WorkerRole::kGpu, "auto"}));

  options = WithModel();
  options.npu = "cpu";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.gateway.plan, "split");

  options = WithModel();
  options.npu = "cpu";
  options.gpu = "none";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.gateway.plan, "npu");
}

TEST(UpOptionsTest, SeveralDevicesOfOneRole) {
  UpOptions options = WithModel();
  options.gpu = "llvmpipe,auto";
  options.gateway.plan = "layers:3,5";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_THAT(options.workers, ElementsAre(WorkerOptions{"gpu0", WorkerRole::kGpu, "llvmpipe"},
                                           WorkerOptions{"gpu1", WorkerRole::kGpu, "auto"}));
}

TEST(UpOptionsTest, SaysWhatIsWrong) {
  UpOptions options;
  EXPECT_THAT(Message(FinishOptions(&options)), HasSubstr("--model: expected the path"));
  EXPECT_THAT(ErrorOf({"--model=/does/not/exist"}), HasSubstr("'/does/not/exist' does not exist"));
  EXPECT_EQ(ErrorOf({"--quant", "int3"}),
            "--quant: expected one of bf16, int8, int4, as-is, found 'int3'");
  EXPECT_THAT(ErrorOf({"--npu=tpu"}),
              HasSubstr("--npu: expected one of cpu, xrt, none, found 'tpu'"));
  EXPECT_THAT(ErrorOf({"--gpu=none"}), HasSubstr("at least one device"));
  EXPECT_THAT(ErrorOf({"--plan=split"}),
              HasSubstr("--plan: 'split': expected a worker of role 'npu', found none"));
  EXPECT_THAT(ErrorOf({"--plan=zigzag"}), HasSubstr("--plan: expected gpu, npu, split, layers"));
  EXPECT_THAT(ErrorOf({"--gpu=auto,,auto"}), HasSubstr("--gpu: expected device names"));
  EXPECT_THAT(ErrorOf({"--no_such_flag"}), HasSubstr("--no_such_flag: unknown flag"));
}

TEST(UpOptionsTest, NumbersAndChoicesOutOfRangeAreRefused) {
  EXPECT_EQ(ErrorOf({"--context", "-5"}),
            "--context: expected a whole number from 0 to 1048576, found '-5'");
  EXPECT_EQ(ErrorOf({"--threads=-2"}),
            "--threads: expected a whole number from 0 to 1024, found '-2'");
  EXPECT_EQ(ErrorOf({"--log_level=loud"}),
            "--log_level: expected one of trace, debug, info, warn, error, off, found 'loud'");
  EXPECT_EQ(ErrorOf({"--max_sequences=100000"}),
            "--max_sequences: expected a whole number from 0 to 1024, found '100000'");
  EXPECT_EQ(ErrorOf({"--max_sequences=65"}), "");
  EXPECT_EQ(ErrorOf({"--edge_kinds=inline,pigeon"}),
            "--edge_kinds: expected one of dma-buf, host-pointer, inline, found 'pigeon'");
}

TEST(UpOptionsTest, TheKeyFileIsReadBeforeAnythingStarts) {
  EXPECT_THAT(ErrorOf({"--api_key_file=/no/such/key"}),
              HasSubstr("--api_key_file: API key file '/no/such/key': cannot be opened: No such"));
}

class ConfigFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-config-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    AddUpFlags(&flags_, &options_);
  }
  std::string Apply(const std::string& text) {
    std::ofstream(folder_ + "/c.json") << text;
    return Message(ApplyConfigFile(folder_ + "/c.json", &flags_));
  }
  std::string folder_;
  UpOptions options_;
  FlagList flags_;
};

TEST_F(ConfigFileTest, KeysAreTheNamesOfTheFlags) {
  EXPECT_EQ(Apply(R"({"model": "m.gguf", "npu": "cpu", "context": 4096, /* a note */
                      "plan": "split", "kv_memory": 123456789012})"),
            "");
  EXPECT_EQ(options_.loader.model, "m.gguf");
  EXPECT_EQ(options_.gateway.context, 4096);
  EXPECT_EQ(options_.gateway.plan, "split");
  EXPECT_EQ(options_.gateway.kv_memory, 123456789012u);
}

TEST_F(ConfigFileTest, ErrorsNameTheFileAndTheKeyOrThePlace) {
  EXPECT_THAT(Apply("{\n  \"model\": }"),
              HasSubstr("c.json': expected JSON, found a parse error at line 2, column 12"));
  EXPECT_THAT(Apply("[]"), HasSubstr("expected an object with the names of flags, found array"));
  EXPECT_THAT(Apply(R"({"modle": "x"})"), HasSubstr("unknown key 'modle'; known are model, "));
  EXPECT_THAT(Apply(R"({"model": ["x"]})"), HasSubstr("'model': expected a text"));
  EXPECT_THAT(Apply(R"({"context": -1})"), HasSubstr("'context': expected a whole number"));
  EXPECT_THAT(Apply(R"({"context": 1.5})"), HasSubstr("'context': expected a whole number"));
  EXPECT_THAT(Message(ApplyConfigFile(folder_, &flags_)),
              HasSubstr("--config: '" + folder_ + "' cannot be read: Is a directory"));
  EXPECT_THAT(Message(ApplyConfigFile(folder_ + "/none", &flags_)),
              HasSubstr("/none' cannot be read: No such file"));
}

TEST(ProcessesTest, EveryProcessGetsItsAddresses) {
  UpOptions options = WithModel();
  options.npu = "cpu";
  options.cpu.threads = 2;
  options.vulkan.weights = WeightImport::kUpload;
  ASSERT_TRUE(FinishOptions(&options).ok());
  ClusterPaths paths;
  paths.runtime = "/r";
  const auto specs = ProcessesOf(options, paths, "/bin");
  ASSERT_EQ(specs.size(), 4u);
  EXPECT_EQ(specs[0].command[0], "/bin/tandem-loader");
  EXPECT_THAT(specs[0].command, Contains("--model=/proc/self/exe"));
  EXPECT_EQ(specs[1].command[0], "/bin/tandem-npu-worker");
  EXPECT_THAT(specs[1].command, Contains("--threads=2"));
  EXPECT_THAT(specs[1].command, Contains("--listen=unix:/r/npu0.sock"));
  EXPECT_THAT(specs[2].command, Contains("--gpu_weights=upload"));
  EXPECT_THAT(specs[2].command, Not(Contains(StartsWith("--threads"))));
  EXPECT_THAT(specs[3].command, Contains("--worker=npu0=npu=unix:/r/npu0.sock"));
  EXPECT_THAT(specs[3].command, Contains("--worker=gpu0=gpu=unix:/r/gpu0.sock"));
  EXPECT_THAT(specs[3].command, Contains("--plan=split"));
  EXPECT_THAT(specs[3].command, Not(Contains(StartsWith("--context"))));
}

// Every flag of the gateway can be given to `tandem up`, and reaches the gateway.
TEST(ProcessesTest, EveryGatewaySettingIsHandedOn) {
  const std::vector<std::string> given = {"--http=127.0.0.1:1",
                                          "--grpc=127.0.0.1:2",
                                          "--plan=layers:1,2",
                                          "--edge_kinds=inline",
                                          "--activations=int8",
                                          "--kv_type=float16",
                                          "--context=5",
                                          "--max_tokens_per_step=6",
                                          "--max_sequences=7",
                                          "--kv_memory=8",
                                          "--queue=9",
                                          "--model_id=ten",
                                          "--start_timeout=11s",
                                          "--recovery_timeout=12s",
                                          "--shutdown_grace=13s",
                                          "--steps_in_flight=4",
                                          "--micro_batches=3",
                                          "--allowed_hosts=a,b"};
  UpOptions options = WithModel();
  FlagList flags;
  AddUpFlags(&flags, &options);
  ASSERT_TRUE(flags.Parse(given).ok());
  ASSERT_TRUE(FinishOptions(&options).ok());
  const ProcessSpec gateway = GatewayProcess(options, ClusterPaths(), "/bin");
  for (const std::string& argument : given) EXPECT_THAT(gateway.command, Contains(argument));
  FlagList all;
  GatewaySettings defaults;
  AddGatewayFlags(&all, &defaults);
  for (const std::string& name : all.Names()) {
    // This one names a file, which would have to exist.
    if (name == "api_key_file") continue;
    EXPECT_THAT(given, Contains(StartsWith("--" + name + "="))) << "missing in this test";
  }
}

}  // namespace
}  // namespace tandem
