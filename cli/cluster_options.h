#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

struct WorkerOptions {
  std::string name;    // "gpu0"
  std::string role;    // "gpu" or "npu"
  std::string device;  // gpu: auto or part of a device's name; npu: cpu or xrt
  bool operator==(const WorkerOptions&) const = default;
};

// What `tandem up` starts. Filled from a configuration file, then from flags.
struct ClusterOptions {
  std::string model;            // file, folder or Hugging Face cache
  std::string quant = "as-is";  // bf16, int8, int4, as-is
  std::string plan;             // empty: split with an npu and a gpu, else whichever there is
  std::string npu = "none";     // cpu, xrt or none; several with commas
  std::string gpu = "auto";     // auto, a name, or none; several with commas
  std::string http = "127.0.0.1:8080";
  std::string grpc = "127.0.0.1:8081";
  std::string activations = "float32";
  std::string kv_type;                    // empty: the gateway's default, float32
  std::string edge_kinds;                 // empty: the gateway's order
  std::string gpu_weights = "zero-copy";  // on a GPU with unified memory: zero-copy or upload
  std::string api_key_file;
  std::string model_id;            // what the API calls the model; empty: the model's own name
  std::int32_t context = 0;        // 0: the model's, as far as memory reaches
  std::int32_t max_sequences = 0;  // 0: the gateway's default
  std::int32_t threads = 0;        // of a cpu device; 0: all cores
  std::string log_level = "info";
  std::vector<WorkerOptions> workers;  // made from npu and gpu by Finish
};

// Reads a JSON configuration file: an object with the names of the flags of `tandem up`. Unknown
// keys and wrong types are INVALID_ARGUMENT with the file's name and the key. `text` is the file's
// content.
absl::Status ApplyConfigJson(std::string_view text, std::string_view file, ClusterOptions* options);

// Makes `workers`, chooses the default plan, and checks what can be checked without devices.
absl::Status FinishOptions(ClusterOptions* options);

}  // namespace tandem
