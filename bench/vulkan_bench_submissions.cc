#include "bench/vulkan_bench_submissions.h"

#include <vulkan/vulkan.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/instance.h"
#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/clock.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using vulkan::Structure;
using vulkan::ToStatus;

constexpr std::size_t kRounds = 200;
constexpr std::size_t kLongRounds = 30;

// Seconds: of the call that lets the work go, and from that call until its end is known.
struct Times {
  double call = 0;
  double end = 0;
};

class SubmissionBench {
 public:
  static absl::StatusOr<std::unique_ptr<SubmissionBench>> Create(const std::string& name,
                                                                 bool small) {
    auto bench = std::unique_ptr<SubmissionBench>(new SubmissionBench);
    TANDEM_ASSIGN_OR_RETURN(bench->instance_, vulkan::Instance::Create(false, nullptr));
    TANDEM_ASSIGN_OR_RETURN(const auto devices,
                            vulkan::ListPhysicalDevices(bench->instance_->handle()));
    TANDEM_ASSIGN_OR_RETURN(const std::size_t chosen, vulkan::ChooseDevice(devices, name));
    TANDEM_ASSIGN_OR_RETURN(bench->device_, vulkan::LogicalDevice::Create(devices[chosen]));
    const vulkan::LogicalDevice& device = *bench->device_;
    vkGetDeviceQueue(device.handle(), device.physical().compute_family, 0, &bench->queue_);
    TANDEM_ASSIGN_OR_RETURN(bench->done_, vulkan::Timeline::Create(device));
    TANDEM_ASSIGN_OR_RETURN(bench->go_, vulkan::Timeline::Create(device));
    TANDEM_ASSIGN_OR_RETURN(bench->pool_, vulkan::CommandPool::Create(device));
    TANDEM_ASSIGN_OR_RETURN(auto nothing, bench->pool_.Begin());
    TANDEM_RETURN_IF_ERROR(nothing.Finish());
    bench->nothing_ = nothing.handle();
    const std::uint64_t bytes = small ? 8 << 20 : 1 << 30;
    for (vulkan::Buffer& buffer : bench->buffers_) {
      TANDEM_ASSIGN_OR_RETURN(
          buffer, vulkan::Buffer::Create(device, bytes, vulkan::Placement::kDevice, "copies"));
    }
    TANDEM_ASSIGN_OR_RETURN(auto copies, bench->pool_.Begin());
    for (int i = 0; i < 8; ++i) copies.Copy(bench->buffers_[0].slice(), bench->buffers_[1].slice());
    TANDEM_RETURN_IF_ERROR(copies.Finish());
    bench->copies_ = copies.handle();
    return bench;
  }

  absl::Status Run() {
    std::printf("submissions, us: the call, and until the end is known\n");
    for (const bool looks : {false, true}) {
      TANDEM_RETURN_IF_ERROR(Print("nothing, sent", looks, kRounds,
                                   [&](bool look) { return Direct(nothing_, look); }));
      TANDEM_RETURN_IF_ERROR(Print("nothing, sent ahead and let go", looks, kRounds,
                                   [&](bool look) { return Ahead(nothing_, look); }));
      TANDEM_RETURN_IF_ERROR(Print("copies, sent", looks, kLongRounds,
                                   [&](bool look) { return Direct(copies_, look); }));
      TANDEM_RETURN_IF_ERROR(Print("copies, sent ahead and let go", looks, kLongRounds,
                                   [&](bool look) { return Ahead(copies_, look); }));
    }
    return Timeout();
  }

 private:
  SubmissionBench() = default;

  static double Seconds(absl::Duration since) {
    return absl::ToDoubleSeconds(Clock::Real().Uptime() - since);
  }

  absl::Status WaitForIt(bool look) const {
    if (!look) return done_.Wait(value_, Deadline::Never());
    const absl::Duration now = Clock::Real().Uptime();
    return done_.WaitLooking(value_, now, now + absl::Seconds(1), Deadline::Never());
  }

  absl::StatusOr<Times> Direct(VkCommandBuffer commands, bool look) {
    const absl::Duration start = Clock::Real().Uptime();
    TANDEM_RETURN_IF_ERROR(device_->Submit({&commands, 1}, done_.handle(), ++value_));
    const double call = Seconds(start);
    TANDEM_RETURN_IF_ERROR(WaitForIt(look));
    return Times{call, Seconds(start)};
  }

  // Sent while nothing runs, behind a value of `go_` that the host sets.
  absl::StatusOr<Times> Ahead(VkCommandBuffer commands, bool look) {
    ++value_;
    constexpr VkPipelineStageFlags kAll = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    auto values =
        Structure<VkTimelineSemaphoreSubmitInfo>(VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO);
    values.waitSemaphoreValueCount = values.signalSemaphoreValueCount = 1;
    values.pWaitSemaphoreValues = values.pSignalSemaphoreValues = &value_;
    const VkSemaphore go = go_.handle();
    const VkSemaphore done = done_.handle();
    auto info = Structure<VkSubmitInfo>(VK_STRUCTURE_TYPE_SUBMIT_INFO);
    info.pNext = &values;
    info.waitSemaphoreCount = info.signalSemaphoreCount = info.commandBufferCount = 1;
    info.pWaitSemaphores = &go;
    info.pWaitDstStageMask = &kAll;
    info.pSignalSemaphores = &done;
    info.pCommandBuffers = &commands;
    TANDEM_RETURN_IF_ERROR(
        ToStatus(vkQueueSubmit(queue_, 1, &info, VK_NULL_HANDLE), "sending work ahead"));
    // As long as a step is: the device has seen by then that it must wait.
    absl::SleepFor(absl::Milliseconds(2));
    auto signal = Structure<VkSemaphoreSignalInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO);
    signal.semaphore = go;
    signal.value = value_;
    const absl::Duration start = Clock::Real().Uptime();
    TANDEM_RETURN_IF_ERROR(
        ToStatus(vkSignalSemaphore(device_->handle(), &signal), "letting work go"));
    const double call = Seconds(start);
    TANDEM_RETURN_IF_ERROR(WaitForIt(look));
    return Times{call, Seconds(start)};
  }

  static absl::Status Print(const char* what, bool look, std::size_t rounds,
                            const std::function<absl::StatusOr<Times>(bool)>& once) {
    std::vector<double> calls;
    std::vector<double> ends;
    for (std::size_t round = 0; round < rounds; ++round) {
      TANDEM_ASSIGN_OR_RETURN(const Times times, once(look));
      calls.push_back(times.call);
      ends.push_back(times.end);
    }
    std::sort(calls.begin(), calls.end());
    std::sort(ends.begin(), ends.end());
    std::printf("  %-32s %s  %8.1f  %10.1f (a tenth %10.1f, nine tenths %10.1f)\n", what,
                look ? "looking " : "sleeping", 1e6 * calls[rounds / 2], 1e6 * ends[rounds / 2],
                1e6 * ends[rounds / 10], 1e6 * ends[9 * rounds / 10]);
    return absl::OkStatus();
  }

  // How much later than asked for a wait ends that nothing else ends.
  absl::Status Timeout() const {
    for (const double asked : {100e-6, 1e-3, 5e-3}) {
      std::vector<double> waits;
      for (int round = 0; round < 15; ++round) {
        const absl::Duration start = Clock::Real().Uptime();
        const absl::Status status = done_.Wait(value_ + 1, Deadline::After(absl::Seconds(asked)));
        if (!absl::IsDeadlineExceeded(status)) return status;
        waits.push_back(Seconds(start));
      }
      std::sort(waits.begin(), waits.end());
      std::printf("  a wait of %6.0f us that nothing ends takes %8.1f us\n", 1e6 * asked,
                  1e6 * waits[waits.size() / 2]);
    }
    return absl::OkStatus();
  }

  std::unique_ptr<vulkan::Instance> instance_;
  std::unique_ptr<vulkan::LogicalDevice> device_;
  VkQueue queue_ = VK_NULL_HANDLE;
  vulkan::Timeline done_, go_;
  vulkan::CommandPool pool_;
  VkCommandBuffer nothing_ = VK_NULL_HANDLE;
  std::array<vulkan::Buffer, 2> buffers_;
  VkCommandBuffer copies_ = VK_NULL_HANDLE;
  std::uint64_t value_ = 0;
};

}  // namespace

absl::Status BenchSubmissions(const std::string& device, bool small) {
  TANDEM_ASSIGN_OR_RETURN(const auto bench, SubmissionBench::Create(device, small));
  return bench->Run();
}

}  // namespace tandem
