#include "lib/worker/worker_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "lib/telemetry/metrics_page.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(WorkerMetrics, SayWhatTheDescriptionSays) {
  v1::WorkerDescription worker;
  worker.set_name("gpu0");
  worker.set_healthy(true);
  worker.set_device_losses(2);
  worker.mutable_device()->set_kind("vulkan");
  worker.mutable_device()->set_name("a GPU");
  worker.mutable_device()->set_driver("radv");
  worker.mutable_device()->set_memory_bytes(1024);
  worker.set_kv_cache_bytes(512);
  for (const char* name : {"embed", "ffn 0"}) {
    v1::StageDescription& stage = *worker.add_stages();
    stage.set_name(name);
    stage.set_runs(3);
    stage.set_run_seconds(1.5);
    stage.set_wait_seconds(0.25);
  }
  v1::EdgeDescription& edge = *worker.add_edges();
  edge.set_id("npu0>gpu0");
  edge.set_to("gpu0");
  edge.set_kind("dma-buf");
  edge.set_wait_seconds(0.5);
  for (const char* kind : {"upload (no zero-copy)", "upload (another reason)", "dma-buf"}) {
    v1::WeightsDescription& weights = *worker.add_weights();
    weights.set_import_kind(kind);
    weights.set_bytes(10);
  }
  MetricsPage page;
  AddWorkerMetrics(worker, &page);
  const std::string text = page.Text();
  for (const char* line : {
           "tandem_device_healthy{worker=\"gpu0\"} 1\n",
           "tandem_device_losses_total{worker=\"gpu0\"} 2\n",
           "tandem_device_info{worker=\"gpu0\",kind=\"vulkan\",device=\"a GPU\",driver=\"radv\"} "
           "1\n",
           "tandem_device_memory_bytes{worker=\"gpu0\"} 1024\n",
           "tandem_kv_cache_bytes{worker=\"gpu0\"} 512\n",
           "tandem_stage_runs_total{worker=\"gpu0\",device=\"a GPU\",stage=\"embed\"} 3\n",
           "tandem_stage_run_seconds_total{worker=\"gpu0\",device=\"a GPU\",stage=\"ffn 0\"} 1.5\n",
           "tandem_stage_wait_seconds_total{worker=\"gpu0\",device=\"a GPU\",stage=\"ffn 0\"} "
           "0.25\n",
           "tandem_device_busy_seconds_total{worker=\"gpu0\"} 3\n",
           "tandem_edge_wait_seconds_total{worker=\"gpu0\",edge=\"npu0>gpu0\",kind=\"dma-buf\","
           "for=\"data\"} 0.5\n",
           "tandem_weights_imported_bytes{worker=\"gpu0\",import=\"upload\"} 20\n",
           "tandem_weights_imported_bytes{worker=\"gpu0\",import=\"dma-buf\"} 10\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

// Between generations a worker has no stages: it then says nothing of them, rather than 0.
TEST(WorkerMetrics, AWorkerWithoutAPartHasNoBusyTime) {
  MetricsPage page;
  AddWorkerMetrics(v1::WorkerDescription(), &page);
  EXPECT_THAT(page.Text(), Not(HasSubstr("busy")));
  EXPECT_THAT(page.Text(), HasSubstr("tandem_generation{worker=\"\"} 0\n"));
}

TEST(WorkerMetrics, DeviceLossesOutliveTheProcess) {
  char folder[] = "/tmp/tandem-losses-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string socket = std::string(folder) + "/gpu0.fd.sock";
  const std::string file = socket + ".losses";
  EXPECT_EQ(ReadDeviceLosses(socket), 0u);
  WriteDeviceLosses(socket, 7);
  EXPECT_EQ(ReadDeviceLosses(socket), 7u);
  std::ofstream(file) << "seven";
  EXPECT_EQ(ReadDeviceLosses(socket), 0u);
  ::unlink(file.c_str());
  // Neither links nor what would block are read.
  ASSERT_EQ(::symlink("/proc/sys/kernel/pid_max", file.c_str()), 0);
  EXPECT_EQ(ReadDeviceLosses(socket), 0u);
  ::unlink(file.c_str());
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  EXPECT_EQ(ReadDeviceLosses(socket), 0u);
  ::unlink(file.c_str());
  ::rmdir(folder);
  EXPECT_EQ(ReadDeviceLosses(""), 0u);
  WriteDeviceLosses("", 1);
}

}  // namespace
}  // namespace tandem
