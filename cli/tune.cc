#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cli/cluster_files.h"
#include "cli/commands.h"

namespace tandem {

int CommandTune(const TuneOptions& options) {
  const absl::StatusOr<std::string> folder = ProgramFolder();
  if (!folder.ok()) {
    std::fprintf(stderr, "tandem: error: %s\n", std::string(folder.status().message()).c_str());
    return 1;
  }
  // In its place: it has the drivers, prints what it finds and gives the exit code.
  std::vector<std::string> words = {*folder + "/tandem-gpu-worker", "--tune",
                                    "--tune_device=" + options.gpu, "--tune_shape=" + options.shape,
                                    "--tune_weights=" + options.weights};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(arguments.front(), arguments.data());
  std::fprintf(stderr, "tandem: error: cannot start %s: %s\n", words.front().c_str(),
               std::strerror(errno));
  return 1;
}

}  // namespace tandem
