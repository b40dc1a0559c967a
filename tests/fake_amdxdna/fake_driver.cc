#include "tests/fake_amdxdna/fake_driver.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include <sys/mman.h>

#include <xrt/detail/ert.h>

namespace tandem::npu {
namespace {

struct ModelFacts {
  ArrayShape array;
  std::uint16_t columns;  // of the array, those without a shim DMA included
  std::uint32_t contexts;
  amdxdna_drm_query_firmware_version firmware;
  std::uint64_t tops;
};
const ModelFacts& FactsOf(FakeDriver::Model model) {
  static constexpr ModelFacts kPhoenix = {kAie2Array, 5, 6, {1, 5, 5, 391}, 10};
  static constexpr ModelFacts kStrix = {kAie2pArray, 8, 16, {1, 1, 2, 65}, 50};
  return model == FakeDriver::Model::kPhoenix ? kPhoenix : kStrix;
}

// What a context is configured with: the stand-in's own partial configuration, a line of text where
// hardware has an image: "tandem-product int8 aie2".
std::unique_ptr<ArrayModel> ArrayOf(const std::string& configuration, const ArrayShape& array) {
  const std::string generation = array == kAie2Array ? " aie2" : " aie2p";
  std::unique_ptr<ArrayDesign> design;
  if (configuration == "tandem-attention bf16" + generation) design = AttentionDesign(array);
  if (configuration == "tandem-rows float32" + generation) design = RowsDesign(array);
  if (configuration == "tandem-product int8" + generation) design = ProductDesign(array, false);
  if (configuration == "tandem-product int4" + generation) design = ProductDesign(array, true);
  if (design == nullptr) return nullptr;
  return std::make_unique<ArrayModel>(array, std::move(design));
}

}  // namespace

FakeDriver::FakeDriver(Options options)
    : options_(std::move(options)), faults_(options_.faults), thread_([this] { RunCommands(); }) {}

FakeDriver::~FakeDriver() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeDriver::Log(const char* format, ...) {
  if (!options_.log) return;
  va_list arguments;
  va_start(arguments, format);
  std::fputs("fake amdxdna: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
}

int FakeDriver::Ioctl(unsigned long request, void* argument) {
  std::unique_lock lock(mutex_);
  if (faults_.Next("ioctl") == "vanish") gone_ = true;
  if (gone_ && request != DRM_IOCTL_GEM_CLOSE) return -ENODEV;
  // As DRM does: the number counts. Kernel and plug-in differ in the direction of WAIT_CMD.
  if (_IOC_TYPE(request) == DRM_IOCTL_BASE &&
      _IOC_NR(request) == _IOC_NR(DRM_IOCTL_AMDXDNA_WAIT_CMD)) {
    lock.unlock();
    return WaitCommand(*static_cast<const amdxdna_drm_wait_cmd*>(argument));
  }
  return Dispatch(request, argument);
}

int FakeDriver::Dispatch(unsigned long request, void* argument) {
  switch (request) {
    case DRM_IOCTL_AMDXDNA_CREATE_BO:
      return CreateBuffer(static_cast<amdxdna_drm_create_bo*>(argument));
    case DRM_IOCTL_AMDXDNA_GET_BO_INFO:
      return BufferInfo(static_cast<amdxdna_drm_get_bo_info*>(argument));
    case DRM_IOCTL_GEM_CLOSE:
      return CloseBuffer(*static_cast<const drm_gem_close*>(argument));
    case DRM_IOCTL_PRIME_HANDLE_TO_FD:
      return ExportBuffer(static_cast<drm_prime_handle*>(argument));
    case DRM_IOCTL_PRIME_FD_TO_HANDLE:
      return ImportBuffer(static_cast<drm_prime_handle*>(argument));
    case DRM_IOCTL_AMDXDNA_SYNC_BO:
      return SyncBuffer(*static_cast<const amdxdna_drm_sync_bo*>(argument));
    case DRM_IOCTL_AMDXDNA_CREATE_HWCTX:
      return CreateContext(static_cast<amdxdna_drm_create_hwctx*>(argument));
    case DRM_IOCTL_AMDXDNA_CONFIG_HWCTX:
      return ConfigureContext(*static_cast<const amdxdna_drm_config_hwctx*>(argument));
    case DRM_IOCTL_AMDXDNA_DESTROY_HWCTX:
      return DestroyContext(*static_cast<const amdxdna_drm_destroy_hwctx*>(argument));
    case DRM_IOCTL_AMDXDNA_EXEC_CMD:
      return Submit(static_cast<amdxdna_drm_exec_cmd*>(argument));
    case DRM_IOCTL_AMDXDNA_GET_INFO:
      return GetInfo(static_cast<amdxdna_drm_get_info*>(argument));
    default:
      Log("unknown request 0x%lx", request);
      return -ENOTTY;
  }
}

int FakeDriver::CreateContext(amdxdna_drm_create_hwctx* a) {
  const ModelFacts& facts = FactsOf(options_.model);
  if (a->ext != 0 || a->ext_flags != 0) return -EINVAL;
  if (faults_.Next("create_hwctx") == "nomem") return -ENOMEM;
  const std::uint32_t columns = a->num_tiles / facts.array.rows;
  if (columns == 0 || a->num_tiles % facts.array.rows != 0 || columns > facts.array.columns) {
    Log("context refused: %u tiles, the array has %u columns of %u", a->num_tiles,
        facts.array.columns, facts.array.rows);
    return -EINVAL;
  }
  if (contexts_.size() >= facts.contexts) {
    Log("context refused: %zu are there", contexts_.size());
    return -ENOENT;
  }
  a->handle = NewHandle();
  a->syncobj_handle = 0;
  a->umq_doorbell = 0;
  contexts_[a->handle].columns = columns;
  Log("context %u of %u columns", a->handle, columns);
  return 0;
}

int FakeDriver::ConfigureContext(const amdxdna_drm_config_hwctx& a) {
  const auto found = contexts_.find(a.handle);
  if (found == contexts_.end() || a.param_type != DRM_AMDXDNA_HWCTX_CONFIG_CU) return -EINVAL;
  if (found->second.array != nullptr) return -EINVAL;  // configured already
  const auto* config = reinterpret_cast<const amdxdna_hwctx_param_config_cu*>(a.param_val);
  if (a.param_val_size < sizeof(*config) || config->num_cus != 1 ||
      a.param_val_size < sizeof(*config) + sizeof(config->cu_configs[0])) {
    return -EINVAL;
  }
  const Buffer* image = Find(config->cu_configs[0].cu_bo);
  if (image == nullptr || image->type != AMDXDNA_BO_DEV) return -EINVAL;
  // Read as the device does: what was synced to it.
  Buffer& heap = buffers_[heap_];
  const std::uint64_t at = image->device_address - heap.device_address;
  const auto* text = reinterpret_cast<const char*>(heap.device.data() + at);
  const std::string configuration(text, strnlen(text, image->size));
  const ArrayShape& array = FactsOf(options_.model).array;
  if (found->second.columns != array.columns) return -EINVAL;
  found->second.array = ArrayOf(configuration, array);
  if (found->second.array == nullptr) {
    Log("configuration refused: '%.40s'", configuration.c_str());
    return -EINVAL;
  }
  Log("context %u runs %s", a.handle, configuration.c_str());
  return 0;
}

int FakeDriver::DestroyContext(const amdxdna_drm_destroy_hwctx& a) {
  return contexts_.erase(a.handle) == 1 ? 0 : -EINVAL;
}

int FakeDriver::Submit(amdxdna_drm_exec_cmd* a) {
  const auto context = contexts_.find(a->hwctx);
  if (a->ext != 0 || a->ext_flags != 0 || a->type != AMDXDNA_CMD_SUBMIT_EXEC_BUF ||
      a->cmd_count != 1 || a->arg_count > 1024) {
    return -EINVAL;
  }
  if (context == contexts_.end() || context->second.array == nullptr) return -EINVAL;
  const Buffer* packet = Find(static_cast<std::uint32_t>(a->cmd_handles));
  if (packet == nullptr || packet->type != AMDXDNA_BO_CMD || packet->host == nullptr)
    return -EINVAL;
  Command command;
  command.context = a->hwctx;
  command.packet = static_cast<std::uint32_t>(a->cmd_handles);
  const auto* handles = reinterpret_cast<const std::uint32_t*>(a->args);
  command.arguments.assign(handles, handles + a->arg_count);
  for (const std::uint32_t handle : command.arguments) {
    if (Find(handle) == nullptr) return -EINVAL;
  }
  command.sequence = ++context->second.submitted;
  a->seq = command.sequence;
  queue_.push_back(std::move(command));
  changed_.notify_all();
  return 0;
}

int FakeDriver::WaitCommand(const amdxdna_drm_wait_cmd& a) {
  std::unique_lock lock(mutex_);
  const auto done = [&] {
    const auto context = contexts_.find(a.hwctx);
    return gone_ || context == contexts_.end() || context->second.completed >= a.seq;
  };
  // A timeout of 0 means without end, as in the driver.
  if (a.timeout == 0) {
    changed_.wait(lock, done);
  } else if (!changed_.wait_for(lock, std::chrono::milliseconds(a.timeout), done)) {
    return -ETIME;
  }
  return gone_ ? -ENODEV : 0;
}

void FakeDriver::RunCommands() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const Command command = std::move(queue_.front());
    queue_.pop_front();
    // The lock is held while the command runs: whoever asks meanwhile waits, as for a busy driver.
    RunOne(command);
    changed_.notify_all();
  }
}

void FakeDriver::RunOne(const Command& command) {
  const auto context = contexts_.find(command.context);
  Buffer* packet = Find(command.packet);
  if (context == contexts_.end() || packet == nullptr) return;
  auto* header = reinterpret_cast<ert_packet*>(packet->host);
  std::uint32_t state = ERT_CMD_STATE_ABORT;
  const std::string fault = faults_.Next("exec");
  if (fault == "lost") context->second.lost = true;
  if (fault == "vanish") gone_ = true;
  if (fault == "timeout") {
    // The driver's watchdog gives a command up and resets its context: nothing is waited for here,
    // the outcome is the same.
    state = ERT_CMD_STATE_TIMEOUT;
  } else if (fault == "error") {
    state = ERT_CMD_STATE_ERROR;
  } else if (!context->second.lost && !gone_) {
    state = RunPacket(&context->second, command, packet->host, packet->size);
  }
  if (state == ERT_CMD_STATE_TIMEOUT) context->second.lost = true;
  header->state = state;
  context->second.completed = command.sequence;
  Log("command %lu of context %u: state %u", static_cast<unsigned long>(command.sequence),
      command.context, state);
}

std::uint32_t FakeDriver::RunPacket(Context* context, const Command& command, std::byte* bytes,
                                    std::uint64_t size) {
  auto* packet = reinterpret_cast<ert_packet*>(bytes);
  if (size < sizeof(ert_packet) || (packet->count + 1) * sizeof(std::uint32_t) > size) {
    return ERT_CMD_STATE_ERROR;
  }
  if (packet->opcode == ERT_CMD_CHAIN) {
    auto* chain = reinterpret_cast<ert_cmd_chain_data*>(packet->data);
    for (std::uint32_t i = 0; i < chain->command_count; ++i) {
      Buffer* link = Find(static_cast<std::uint32_t>(chain->data[i]));
      if (link == nullptr || link->type != AMDXDNA_BO_CMD || link->host == nullptr) {
        chain->error_index = i;
        return ERT_CMD_STATE_ERROR;
      }
      const std::uint32_t state = RunPacket(context, command, link->host, link->size);
      reinterpret_cast<ert_packet*>(link->host)->state = state;
      if (state != ERT_CMD_STATE_COMPLETED) {
        chain->error_index = i;
        return state;
      }
    }
    return ERT_CMD_STATE_COMPLETED;
  }
  if (packet->opcode != ERT_START_CU) {
    Log("unknown command %u", packet->opcode);
    return ERT_CMD_STATE_ERROR;
  }
  const auto* start = reinterpret_cast<const ert_start_kernel_cmd*>(packet);
  if (start->extra_cu_masks != 0 || start->count < 1) return ERT_CMD_STATE_ERROR;
  return RunKernel(context, command, start->data, start->count - 1);
}

// Registers of the kernel: operation (2 words), instructions (2), their words (1), buffers (2
// each).
std::uint32_t FakeDriver::RunKernel(Context* context, const Command& command,
                                    const std::uint32_t* registers, std::uint32_t count) {
  constexpr std::uint32_t kFirstBuffer = 5;
  constexpr std::uint64_t kRunTransaction = 3;
  if (count < kFirstBuffer) return ERT_CMD_STATE_ERROR;
  const auto wide = [&](std::uint32_t i) {
    return registers[i] | std::uint64_t{registers[i + 1]} << 32;
  };
  if (wide(0) != kRunTransaction) {
    Log("operation %lu refused", static_cast<unsigned long>(wide(0)));
    return ERT_CMD_STATE_ERROR;
  }
  Buffer& heap = buffers_[heap_];
  const std::uint64_t words = registers[4];
  const std::uint64_t from = wide(2) - heap.device_address;
  if (wide(2) < heap.device_address || from >= heap.size || words * 4 > heap.size - from) {
    Log("instructions at 0x%lx are not in the heap", static_cast<unsigned long>(wide(2)));
    return ERT_CMD_STATE_ERROR;
  }
  std::vector<std::uint64_t> arguments;
  for (std::uint32_t i = kFirstBuffer; i + 1 < count; i += 2) arguments.push_back(wide(i));
  const std::string error = context->array->Run(
      {reinterpret_cast<const std::uint32_t*>(heap.device.data() + from), words}, arguments,
      [&](std::uint64_t address, std::uint64_t bytes) {
        return DeviceMemory(command, address, bytes);
      });
  if (error.empty()) return ERT_CMD_STATE_COMPLETED;
  std::fprintf(stderr, "fake amdxdna: %s\n", error.c_str());
  // Broken streams stay in the array until the context is made anew.
  context->lost = true;
  return context->array->hung() ? ERT_CMD_STATE_TIMEOUT : ERT_CMD_STATE_ERROR;
}

std::byte* FakeDriver::DeviceMemory(const Command& command, std::uint64_t address,
                                    std::uint64_t bytes) {
  for (const std::uint32_t handle : command.arguments) {
    Buffer* buffer = Find(handle);
    if (buffer == nullptr || buffer->type == AMDXDNA_BO_DEV || buffer->device_address == 0)
      continue;
    if (address < buffer->device_address) continue;
    const std::uint64_t offset = address - buffer->device_address;
    if (offset < buffer->size && bytes <= buffer->size - offset) {
      return buffer->device.data() + offset;
    }
  }
  return nullptr;
}

int FakeDriver::GetInfo(amdxdna_drm_get_info* a) {
  const ModelFacts& facts = FactsOf(options_.model);
  const auto answer = [&](const auto& value) {
    if (a->buffer_size < sizeof(value)) return -EINVAL;
    std::memcpy(reinterpret_cast<void*>(a->buffer), &value, sizeof(value));
    a->buffer_size = sizeof(value);
    return 0;
  };
  switch (a->param) {
    case DRM_AMDXDNA_QUERY_AIE_METADATA: {
      amdxdna_drm_query_aie_metadata value{};
      value.col_size = 1U << kColumnShift;
      value.cols = facts.columns;
      value.rows = static_cast<std::uint16_t>(facts.array.rows + kFirstCoreRow);
      value.version = {facts.array == kAie2Array ? 2U : 4U, 0};
      value.core = {static_cast<std::uint16_t>(facts.array.rows), kFirstCoreRow, 2, 16, 0, {}};
      value.mem = {1, 1, 6, 64, 0, {}};
      value.shim = {1, 0, 2, 16, 0, {}};
      return answer(value);
    }
    case DRM_AMDXDNA_QUERY_FIRMWARE_VERSION:
      return answer(facts.firmware);
    case DRM_AMDXDNA_QUERY_AIE_VERSION:
      return answer(amdxdna_drm_query_aie_version{facts.array == kAie2Array ? 2U : 4U, 0});
    default:
      Log("unknown question %u", a->param);
      return -EINVAL;
  }
}

}  // namespace tandem::npu
