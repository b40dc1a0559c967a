#pragma once

#include <string>
#include <vector>

#include "cli/cluster_options.h"
#include "cli/paths.h"

namespace tandem {

// The subcommands of `tandem`. Each returns the exit code: 0, or 1 after one line on standard
// error.

int CommandUp(const ClusterOptions& options, const ClusterPaths& paths, bool detach);
int CommandDown(const ClusterPaths& paths);
int CommandStatus(const ClusterPaths& paths, bool json);

struct ChatOptions {
  std::string once;  // a single question; empty: interactive
  std::string system;
  double temperature = -1;  // < 0: the server's default
  int max_tokens = 0;
  std::string grpc;  // another address than the local cluster's
  std::string api_key_file;
};
int CommandChat(const ClusterPaths& paths, const ChatOptions& options);

int CommandDoctor();
int CommandTokenize(const ClusterPaths& paths, bool decode, bool add_bos, const std::string& grpc,
                    const std::string& api_key_file);

// Prints `tandem: error: ...` and gives 1.
int Fail(const absl::Status& status);

}  // namespace tandem
