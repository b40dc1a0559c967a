#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "lib/base/enum_names.h"
#include "lib/base/logging.h"
#include "lib/model/kinds.h"
#include "lib/model/tuning_mode.h"
#include "lib/service/flags.h"

namespace tandem {

// The settings of a cluster: the keys of its configuration file. A program reads those of the
// structs that it uses from the file, the environment and its own command line, or is handed them
// by `tandem up`. Each struct has one list of flags; a new setting is a field, a line in that list,
// and its use.

// What becomes of a field in a request over HTTP that nobody knows.
enum class UnknownFields : std::uint8_t { kRefuse, kIgnore };
template <>
inline constexpr EnumName<UnknownFields> kEnumNames<UnknownFields>[] = {
    {UnknownFields::kRefuse, "refuse"}, {UnknownFields::kIgnore, "ignore"}};

// What clients of the public ports may take.
struct ClientLimits {
  std::uint64_t max_body = 8 << 20;   // bytes; also of a gRPC message
  std::uint64_t max_head = 32 << 10;  // bytes of an HTTP head
  std::int32_t max_json_depth = 32;
  std::int32_t max_stops = 4;
  std::int32_t max_choices = 128;
  std::uint64_t max_schema = 256 << 10;  // bytes
  std::int32_t max_connections = 256;
  std::int32_t max_connections_per_client = 64;
  absl::Duration head_timeout = absl::Seconds(30);
  absl::Duration body_timeout = absl::Seconds(60);
  absl::Duration write_timeout = absl::Seconds(60);
  absl::Duration idle_timeout = absl::Seconds(75);
};

struct GatewaySettings {
  std::string http = "127.0.0.1:8080";
  std::string grpc = "127.0.0.1:8081";
  std::string plan;                    // gpu, npu, split, layers or layers:N,M,...
  std::vector<HandleKind> edge_kinds;  // empty: the gateway's order
  ActivationType activations = ActivationType::kAuto;
  KvType kv_type = KvType::kFloat16;
  std::int32_t context = 0;              // tokens; 0: the default
  std::int32_t max_tokens_per_step = 0;  // 0: the default
  std::int32_t max_sequences = 0;        // 0: the default
  std::int32_t steps_in_flight = 2;
  std::int32_t micro_batches = 0;  // most of a step; 0: by the plan
  std::uint64_t kv_memory = 0;     // bytes; 0: as devices have it
  std::int32_t queue = 64;
  std::string api_key_file;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  bool insecure = false;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> cors_origins;
  ClientLimits clients;
  std::string model_id;
  UnknownFields unknown_fields = UnknownFields::kRefuse;
  absl::Duration start_timeout = absl::Minutes(5);
  absl::Duration recovery_timeout = absl::Seconds(60);
  absl::Duration shutdown_grace = absl::Seconds(3);
  bool access_log = false;
  bool log_prompts = false;
  std::string otlp_endpoint;  // empty: no traces
};
void AddGatewayFlags(FlagList* flags, GatewaySettings* settings);

struct LoaderSettings {
  std::string model;
  QuantMode quant = QuantMode::kAsIs;
};
void AddLoaderFlags(FlagList* flags, LoaderSettings* settings);

// Which workers there are, and what they run on.
struct DeviceSettings {
  std::string npu = "none";  // cpu, xrt or none; several with commas
  std::string gpu = "auto";  // auto, a device, or none; several with commas
};
void AddDeviceFlags(FlagList* flags, DeviceSettings* settings);

struct CpuDeviceSettings {
  std::int32_t threads = 0;  // 0: all processors
};
void AddCpuDeviceFlags(FlagList* flags, CpuDeviceSettings* settings);

struct NpuDeviceSettings {
  std::string kernels;  // the folder of the NPU's kernel packages
};
void AddNpuDeviceFlags(FlagList* flags, NpuDeviceSettings* settings);

struct VulkanDeviceSettings {
  WeightImport weights = WeightImport::kZeroCopy;
  TuningMode tuning = TuningMode::kAuto;
  ChainingMode chaining = ChainingMode::kAuto;
};
void AddVulkanDeviceFlags(FlagList* flags, VulkanDeviceSettings* settings);

// What a process of a cluster over several hosts shows the others; Unix sockets need none.
struct ClusterTlsSettings {
  std::string cluster_cert;
  std::string cluster_key;
  std::string cluster_ca;
};
void AddClusterTlsFlags(FlagList* flags, ClusterTlsSettings* settings);

struct SandboxSettings {
  bool sandbox = true;
};
void AddSandboxFlags(FlagList* flags, SandboxSettings* settings);

// What all processes show of themselves.
struct WatchSettings {
  bool process_metrics = false;
};
void AddWatchFlags(FlagList* flags, WatchSettings* settings);

struct LogSettings {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
};
void AddLogFlags(FlagList* flags, LogSettings* settings);

// All of them.
struct ClusterSettings {
  LoaderSettings loader;
  DeviceSettings devices;
  GatewaySettings gateway;
  CpuDeviceSettings cpu;
  NpuDeviceSettings npu;
  VulkanDeviceSettings vulkan;
  ClusterTlsSettings tls;
  SandboxSettings sandbox;
  WatchSettings watch;
  LogSettings log;
};
void AddClusterFlags(FlagList* flags, ClusterSettings* settings);

}  // namespace tandem
