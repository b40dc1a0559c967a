#include "cli/up_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lib/service/command_line.h"

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

absl::Status Parse(const std::vector<std::string>& arguments, UpOptions* options) {
  Command command{.name = "up", .summary = "starts a cluster"};
  AddClusterFlags(&command.flags, options);
  command.run = [] { return 0; };
  const absl::StatusOr<Invocation> invocation = ParseArguments(&command, arguments);
  return invocation.ok() ? ApplySources(*invocation) : invocation.status();
}

// The error of `tandem up` with these flags, as far as it comes without devices.
std::string ErrorOf(const std::vector<std::string>& arguments) {
  UpOptions options = WithModel();
  const absl::Status status = Parse(arguments, &options);
  return Message(status.ok() ? FinishOptions(&options) : status);
}

TEST(UpOptionsTest, DefaultPlanFollowsTheDevices) {
  UpOptions options = WithModel();
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.gateway.plan, "gpu");
  EXPECT_THAT(options.workers, ElementsAre(WorkerSpec{"gpu0", WorkerRole::kGpu, "auto"}));

  options = WithModel();
  options.devices.npu = "cpu";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.gateway.plan, "auto");

  options = WithModel();
  options.devices.npu = "cpu";
  options.devices.gpu = "none";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_EQ(options.gateway.plan, "npu");
}

TEST(UpOptionsTest, SeveralDevicesOfOneRole) {
  UpOptions options = WithModel();
  options.devices.gpu = "llvmpipe,auto";
  options.gateway.plan = "layers:3,5";
  ASSERT_TRUE(FinishOptions(&options).ok());
  EXPECT_THAT(options.workers, ElementsAre(WorkerSpec{"gpu0", WorkerRole::kGpu, "llvmpipe"},
                                           WorkerSpec{"gpu1", WorkerRole::kGpu, "auto"}));
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
  EXPECT_THAT(ErrorOf({"--plan=zigzag"}),
              HasSubstr("--plan: expected auto, gpu, npu, split, hybrid, layers"));
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

TEST(ProcessesTest, EveryProcessGetsItsAddresses) {
  UpOptions options = WithModel();
  options.devices.npu = "cpu";
  options.cpu.threads = 2;
  options.npu.kernels = "/k";
  options.vulkan.weights = WeightImport::kUpload;
  ASSERT_TRUE(FinishOptions(&options).ok());
  ClusterPaths paths;
  paths.runtime = "/r";
  const auto specs = ProcessesOf(options, paths, "/bin");
  ASSERT_EQ(specs.size(), 4u);
  EXPECT_EQ(specs[0].command[0], "/bin/tandem-loader");
  EXPECT_THAT(specs[0].command, Contains("--model=/proc/self/exe"));
  for (const ProcessSpec& spec : specs)
    EXPECT_THAT(spec.command, Contains("--only_flags")) << "the environment would count twice";
  EXPECT_EQ(specs[1].command[0], "/bin/tandem-npu-worker");
  EXPECT_THAT(specs[1].command, Contains("--threads=2"));
  EXPECT_THAT(specs[1].command, Contains("--npu_kernels=/k"));
  EXPECT_THAT(specs[1].command, Contains("--listen=unix:/r/npu0.sock"));
  EXPECT_THAT(specs[2].command, Contains("--gpu_weights=upload"));
  EXPECT_THAT(specs[2].command, Not(Contains(StartsWith("--threads"))));
  EXPECT_THAT(specs[3].command, Contains("--worker=npu0=npu=unix:/r/npu0.sock"));
  EXPECT_THAT(specs[3].command, Contains("--worker=gpu0=gpu=unix:/r/gpu0.sock"));
  EXPECT_THAT(specs[3].command, Contains("--plan=auto"));
  EXPECT_THAT(specs[3].command, Not(Contains(StartsWith("--context"))));
}

// Every flag of the gateway can be given to `tandem up`, and reaches the gateway.
TEST(ProcessesTest, EveryGatewaySettingIsHandedOn) {
  const std::vector<std::string> given = {"--http=127.0.0.1:1",
                                          "--grpc=127.0.0.1:2",
                                          "--plan=layers:1,2",
                                          "--edge_kinds=inline",
                                          "--activations=int8",
                                          "--kv_type=float32",
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
                                          "--allowed_hosts=a,b",
                                          "--cors_origins=https://c,app://d",
                                          "--tls_cert=/e",
                                          "--tls_key=/f",
                                          "--tls_client_ca=/g",
                                          "--insecure=true",
                                          "--max_body=2097152",
                                          "--max_head=4096",
                                          "--max_json_depth=9",
                                          "--max_stops=10",
                                          "--max_choices=11",
                                          "--max_schema=12288",
                                          "--max_connections=14",
                                          "--max_connections_per_client=15",
                                          "--head_timeout=16s",
                                          "--body_timeout=17s",
                                          "--write_timeout=18s",
                                          "--idle_timeout=19s",
                                          "--unknown_fields=ignore",
                                          "--access_log=true",
                                          "--log_prompts=true",
                                          "--otlp_endpoint=http://localhost:4318"};
  UpOptions options = WithModel();
  ASSERT_EQ(Message(Parse(given, &options)), "");
  ASSERT_TRUE(FinishOptions(&options).ok());
  const ProcessSpec gateway = GatewayProcess(options, ClusterPaths(), "/bin");
  for (const std::string& argument : given) EXPECT_THAT(gateway.command, Contains(argument));
  FlagList all;
  GatewaySettings defaults;
  AddGatewayFlags(&all, &defaults);
  for (const Flag& flag : all.flags()) {
    // This one names a file, which would have to exist.
    if (flag.name == "api_key_file") continue;
    EXPECT_THAT(given, Contains(StartsWith("--" + flag.name + "="))) << "missing in this test";
  }
}

}  // namespace
}  // namespace tandem
