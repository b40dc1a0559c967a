#include "lib/worker/worker_flags.h"

#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr int kMaxThreads = 1024;

absl::Status SetFlag(const std::string& name, const std::string& value, WorkerFlags* options) {
  if (name == "threads") {
    if (absl::SimpleAtoi(value, &options->threads) && options->threads >= 0 &&
        options->threads <= kMaxThreads)
      return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--threads: expected 0 to ", kMaxThreads, ", found '", value, "'"));
  }
  if (name == "weights" && value != "zero-copy" && value != "upload") {
    return absl::InvalidArgumentError(
        absl::StrCat("--weights: expected zero-copy or upload, found '", value, "'"));
  }
  std::string* text = nullptr;
  if (name == "weights") text = &options->weights;
  if (name == "name") text = &options->name;
  if (name == "device") text = &options->device;
  if (name == "listen") text = &options->listen;
  if (name == "fd_socket") text = &options->fd_socket;
  if (name == "ready_file") text = &options->ready_file;
  if (name == "log_level") text = &options->log_level;
  if (text == nullptr)
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, ": unknown flag (--help lists them)"));
  if (value.empty())
    return absl::InvalidArgumentError(absl::StrCat("--", name, ": expected a value, found none"));
  *text = value;
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWorkerAddress(const std::string& address) {
  if (absl::StartsWith(address, "unix:") && address.size() > 5) return absl::OkStatus();
  const std::size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  int port = -1;
  if (colon != std::string::npos && absl::SimpleAtoi(address.substr(colon + 1), &port) &&
      port >= 0 && port <= 65535 &&
      (host == "localhost" || host == "[::1]" ||
       (absl::StartsWith(host, "127.") &&
        host.find_first_not_of("0123456789.") == std::string::npos))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--listen: expected unix:/path or a loopback address such as 127.0.0.1:0, found '", address,
      "'"));
}

absl::StatusOr<WorkerFlags> ParseWorkerFlags(const std::string& role,
                                             const std::vector<std::string>& arguments) {
  WorkerFlags options;
  options.role = role;
  options.name = absl::StrCat(role, "0");
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!absl::StartsWith(argument, "--"))
      return absl::InvalidArgumentError(
          absl::StrCat("expected --flag=value, found '", argument, "'"));
    if (argument == "--list_devices" || argument == "--help") {
      (argument == "--help" ? options.help : options.list_devices) = true;
      continue;
    }
    const std::size_t equals = argument.find('=');
    const std::string name =
        argument.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    if (equals == std::string::npos && i + 1 == arguments.size()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, ": expected a value, found none"));
    }
    TANDEM_RETURN_IF_ERROR(
        SetFlag(name, equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1),
                &options));
  }
  if (options.help || options.list_devices) return options;
  if (options.device.empty())
    return absl::InvalidArgumentError(
        "--device: expected the device to use, found none (it is never chosen silently)");
  if (options.listen.empty())
    return absl::InvalidArgumentError("--listen: expected an address, found none");
  TANDEM_RETURN_IF_ERROR(CheckWorkerAddress(options.listen));
  return options;
}

std::string WorkerUsage(const std::string& program, const std::string& devices) {
  return absl::StrCat(
      "usage: ", program, " --device=DEVICE --listen=ADDRESS [flags]\n", "  --device=DEVICE      ",
      devices, "\n",
      "  --listen=ADDRESS     unix:/path or a loopback host:port (port 0: any free one)\n"
      "  --name=NAME          as plans and logs call this worker\n"
      "  --fd_socket=PATH     Unix socket where other workers fetch the memory of edges\n"
      "  --ready_file=PATH    gets the address once the worker serves\n"
      "  --log_level=LEVEL    trace, debug, info, warn, error\n"
      "  --weights=HOW        of a Vulkan device with unified memory: zero-copy (default) or "
      "upload\n"
      "  --threads=N          of the CPU device; 0: one for each CPU\n"
      "  --list_devices       prints the devices of this machine and ends\n");
}

}  // namespace tandem
