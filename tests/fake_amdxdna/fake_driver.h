#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <drm/amdxdna_accel.h>
#include <drm/drm.h>

#include "tests/fake_amdxdna/array_model.h"
#include "tests/fake_amdxdna/device_copy.h"
#include "tests/fake_amdxdna/fault_plan.h"

namespace tandem::npu {

// A stand-in for the kernel's amdxdna driver: what its ioctls do, written from the kernel's public
// header (drm/amdxdna_accel.h) and from what the driver is known to refuse. No NPU is behind it:
// commands run on ArrayModel. It keeps the rules that real hardware has:
//   - contexts: 6 at a time on Phoenix, 16 on Strix; a context's columns must be there;
//   - one 64 MiB heap for each open file, from which instructions and configurations come, in
//     pieces aligned to 32 KiB; instructions outside it are refused;
//   - the device sees a copy of each buffer, made when it is synced to the device and brought back
//     when it is synced from it: a missing sync reads stale bytes. Other devices see that copy,
//     too, through the descriptor that an export gives out;
//   - the device reaches only buffers that the command names, at their addresses;
//   - user pointers: whole pages that the process may write to, within RLIMIT_MEMLOCK without the
//     right to lock;
//   - imports: only what an NPU driver exported; memory that a GPU owns is refused.
// All functions may be called from any thread; each returns 0 or -errno as an ioctl does.
class FakeDriver {
 public:
  enum class Model : std::uint8_t { kPhoenix, kStrix };
  struct Options {
    Model model = Model::kPhoenix;
    FaultPlan faults;
    // User pointers that may be pinned, in bytes; without a value RLIMIT_MEMLOCK decides, and the
    // right to lock memory lifts it.
    std::optional<std::uint64_t> pinned_limit;
    bool log = false;
  };
  explicit FakeDriver(Options options);
  ~FakeDriver();

  int Ioctl(unsigned long request, void* argument);
  // mmap of a buffer at the offset that GET_BO_INFO gave; MAP_FAILED with errno.
  void* Map(void* address, std::size_t length, int protection, int flags, std::int64_t offset);

 private:
  struct Buffer {
    int type = AMDXDNA_BO_INVALID;
    std::uint64_t size = 0;
    int fd = -1;                       // the process's pages; -1 for user pointers, heap pieces
    std::byte* host = nullptr;         // what the process sees
    std::uint64_t device_address = 0;  // 0 until it is mapped
    DeviceCopy device;                 // what devices see
    bool pinned = false;
    bool imported = false;
  };
  struct Context {
    std::uint32_t columns = 0;
    std::unique_ptr<ArrayModel> array;
    bool lost = false;
    std::uint64_t submitted = 0;
    std::uint64_t completed = 0;
    std::uint64_t abandoned = 0;
  };
  struct Command {
    std::uint32_t context = 0;
    std::uint64_t sequence = 0;
    std::uint32_t packet = 0;              // a buffer of type CMD
    std::vector<std::uint32_t> arguments;  // buffers that it may reach
  };

  int CreateBuffer(amdxdna_drm_create_bo* a);
  int CreateHeap(Buffer* buffer);
  int CreateHeapPiece(Buffer* buffer);
  int CreateUserBuffer(const amdxdna_drm_create_bo& a, Buffer* buffer);
  int BackWithMemory(Buffer* buffer);
  int BufferInfo(amdxdna_drm_get_bo_info* a);
  int CloseBuffer(const drm_gem_close& a);
  int ExportBuffer(drm_prime_handle* a);
  int ImportBuffer(drm_prime_handle* a);
  int SyncBuffer(const amdxdna_drm_sync_bo& a);
  int CreateContext(amdxdna_drm_create_hwctx* a);
  int ConfigureContext(const amdxdna_drm_config_hwctx& a);
  int DestroyContext(const amdxdna_drm_destroy_hwctx& a);
  int Submit(amdxdna_drm_exec_cmd* a);
  int WaitCommand(const amdxdna_drm_wait_cmd& a);
  int GetInfo(amdxdna_drm_get_info* a);
  int Dispatch(unsigned long request, void* argument);

  void RunCommands();
  void RunOne(const Command& command);
  // The new state of the packet at `packet`, running it on the way.
  std::uint32_t RunPacket(Context* context, const Command& command, std::byte* packet,
                          std::uint64_t size);
  std::uint32_t RunKernel(Context* context, const Command& command, const std::uint32_t* registers,
                          std::uint32_t count);
  std::byte* DeviceMemory(const Command& command, std::uint64_t address, std::uint64_t bytes);
  Buffer* Find(std::uint32_t handle);
  std::uint64_t HeapPlace(std::uint64_t size) const;
  std::uint32_t NewHandle();
  void Log(const char* format, ...) __attribute__((format(printf, 2, 3)));

  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint32_t, Buffer> buffers_;
  std::map<std::uint32_t, Context> contexts_;
  std::deque<Command> queue_;
  std::uint32_t next_handle_ = 1;
  std::uint32_t heap_ = 0;  // handle
  std::uint64_t pinned_bytes_ = 0;
  FaultPlan faults_;
  bool gone_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tandem::npu
