#include "cli/state.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

absl::Status NotRunning(const ClusterPaths& paths) {
  return absl::NotFoundError(absl::StrCat("no cluster '", paths.name,
                                          "' is running (start one with: tandem up --model PATH)"));
}

}  // namespace

absl::Status WriteState(const ClusterPaths& paths, const ClusterState& state) {
  Json processes = Json::array();
  for (const ClusterState::Process& p : state.processes) {
    processes.push_back(
        {{"name", p.name}, {"pid", p.pid}, {"restarts", p.restarts}, {"log", p.log}});
  }
  const Json json = {{"supervisor_pid", state.supervisor_pid},
                     {"http", state.http},
                     {"grpc", state.grpc},
                     {"model", state.model},
                     {"plan", state.plan},
                     {"api_key_file", state.api_key_file},
                     {"processes", processes}};
  const std::string temporary = paths.StateFile() + ".new";
  {
    std::ofstream out(temporary, std::ios::trunc);
    out << json.dump(1) << "\n";
    if (!out.flush()) return absl::UnavailableError(absl::StrCat("cannot write '", temporary, "'"));
  }
  if (std::rename(temporary.c_str(), paths.StateFile().c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("state file '", paths.StateFile(), "'"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ClusterState> ReadState(const ClusterPaths& paths) {
  // Whoever can take the lock proves that no supervisor holds it.
  if (TakeLock(paths).ok()) return NotRunning(paths);
  std::ifstream in(paths.StateFile());
  if (!in) return NotRunning(paths);
  std::stringstream text;
  text << in.rdbuf();
  const Json json = Json::parse(text.str(), nullptr, false);
  ClusterState state;
  try {
    state.supervisor_pid = json.at("supervisor_pid").get<std::int64_t>();
    state.http = json.at("http").get<std::string>();
    state.grpc = json.at("grpc").get<std::string>();
    state.model = json.at("model").get<std::string>();
    state.plan = json.at("plan").get<std::string>();
    state.api_key_file = json.at("api_key_file").get<std::string>();
    for (const Json& p : json.at("processes")) {
      state.processes.push_back({p.at("name").get<std::string>(), p.at("pid").get<std::int64_t>(),
                                 p.at("restarts").get<std::uint32_t>(),
                                 p.at("log").get<std::string>()});
    }
  } catch (const Json::exception& e) {
    return absl::DataLossError(absl::StrCat("state file '", paths.StateFile(), "': ", e.what()));
  }
  return state;
}

absl::StatusOr<UniqueFd> TakeLock(const ClusterPaths& paths) {
  UniqueFd fd(::open(paths.LockFile().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    // Without the folder there is no cluster and nothing to lock.
    return absl::ErrnoToStatus(errno, absl::StrCat("lock file '", paths.LockFile(), "'"));
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("cluster '", paths.name, "' is running already (tandem status, tandem down)"));
  }
  return fd;
}

}  // namespace tandem
