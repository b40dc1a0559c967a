#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/client.h"
#include "cli/cluster_files.h"
#include "cli/up_options.h"

namespace tandem {

// The subcommands of `tandem`. Each returns the exit code: 0, or 1 after one line on standard
// error.

int CommandUp(const UpOptions& options, const ClusterPaths& paths, bool detach);
int CommandDown(const ClusterPaths& paths);

// A gateway to talk to; with an empty address the local cluster's.
struct GatewayAddress {
  std::string grpc;
  // Of another machine's gateway; the local one knows its own user without a key.
  std::string api_key_file;
  std::string tls_ca;  // PEM; empty: no TLS
};

// The gateway that the flags name, else that of the local cluster.
absl::StatusOr<GatewayClient> ConnectTo(const ClusterPaths& paths, const GatewayAddress& gateway);

// Of the gateway that is named, or of the local cluster, with its processes.
int CommandStatus(const ClusterPaths& paths, const GatewayAddress& gateway, bool json);
// What plans were tried, and why one was chosen.
int CommandPlanReport(const ClusterPaths& paths, const GatewayAddress& gateway, bool json);

// Changes the plan of the running cluster and waits until it serves.
int CommandPlan(const ClusterPaths& paths, const GatewayAddress& gateway, const std::string& plan);

struct ChatOptions {
  GatewayAddress gateway;
  std::string once;  // a single question; empty: interactive
  std::string system;
  double temperature = -1;  // < 0: the server's default
  std::int32_t max_tokens = 0;
};
int CommandChat(const ClusterPaths& paths, const ChatOptions& options);

struct TokenizeOptions {
  GatewayAddress gateway;
  bool decode = false;
  bool bos = false;
};
int CommandTokenize(const ClusterPaths& paths, const TokenizeOptions& options);

struct TraceOptions {
  GatewayAddress gateway;
  std::int32_t seconds = 10;
  // Empty: the summary alone.
  std::string output;
};
int CommandTrace(const ClusterPaths& paths, const TraceOptions& options);

struct TuneOptions {
  std::string gpu = "auto";
  std::string shape = "27b";
  std::string weights = "int4";
};
// Measures how the GPU's kernels are best shaped, in a gpu-worker, and keeps that for later starts.
int CommandTune(const TuneOptions& options);

// Keys of a gateway's file. Add prints the new key, which is kept nowhere else.
struct KeyOptions {
  std::string name;
  std::string file;
  std::vector<std::string> scopes = {"inference"};
  std::int32_t requests = 0;
  std::int32_t requests_per_minute = 0;
  std::int32_t tokens_per_minute = 0;
};
int CommandKeyAdd(const KeyOptions& options);
int CommandKeyList(const KeyOptions& options);
int CommandKeyRemove(const KeyOptions& options);

int CommandDoctor();

// Whether the process at this address says that it serves.
int CommandHealth(const std::string& address);

// Prints `tandem: error: ...` and gives 1.
int Fail(const absl::Status& status);

}  // namespace tandem
