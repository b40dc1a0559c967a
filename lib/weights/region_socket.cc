#include "lib/weights/region_socket.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/deadline.h"
#include "lib/base/status_macros.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

constexpr char kOk[] = "ok";
constexpr char kWindows[] = "windows";
// A client writes its request right after it connects. One that does not would keep the others
// waiting.
constexpr absl::Duration kRequestTimeout = absl::Milliseconds(500);

}  // namespace

absl::StatusOr<std::unique_ptr<RegionServer>> RegionServer::Listen(const std::string& path,
                                                                   Options options) {
  std::unique_ptr<RegionServer> server(new RegionServer());
  server->options_ = std::move(options);
  TANDEM_ASSIGN_OR_RETURN(server->listener_, UnixListener::Listen(path));
  server->thread_ = std::thread([raw = server.get()] { raw->Serve(); });
  return server;
}

RegionServer::~RegionServer() {
  if (!thread_.joinable()) return;
  listener_->Stop();
  thread_.join();
}

absl::Status RegionServer::Publish(const RegionManifest& manifest, UniqueFd fd) {
  auto region = std::make_shared<Published>();
  region->manifest = manifest;
  region->fd = std::move(fd);
  const std::lock_guard lock(mutex_);
  if (!regions_.emplace(manifest.name, std::move(region)).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("region '", manifest.name, "' is published already"));
  }
  return absl::OkStatus();
}

void RegionServer::Serve() {
  while (true) {
    const absl::StatusOr<UniqueFd> connection = listener_->Accept();
    if (absl::IsCancelled(connection.status())) return;
    if (!connection.ok()) {
      spdlog::critical("socket {}: no region can be fetched any more: {}", listener_->path(),
                       connection.status().ToString());
      return;
    }
    // A client that breaks the exchange hurts itself only: its connection is closed.
    Answer(connection->get()).IgnoreError();
  }
}

absl::Status RegionServer::Answer(int connection) {
  TANDEM_ASSIGN_OR_RETURN(const FdMessage request, ReceiveFdMessage(connection, kRequestTimeout));
  // Shared, so that no lock is held while the answer is sent, and no descriptor is needed for it.
  std::shared_ptr<Published> region;
  {
    const std::lock_guard lock(mutex_);
    const auto it = regions_.find(request.bytes);
    if (it != regions_.end()) region = it->second;
  }
  if (region == nullptr) {
    return SendFdMessage(
        connection, absl::StrCat("region '", request.bytes.substr(0, 100), "' is not published"),
        {});
  }
  if (region->handed_out.exchange(true)) {
    TANDEM_ASSIGN_OR_RETURN(const Mapping view,
                            Mapping::Map(region->fd.get(), region->manifest.bytes,
                                         /*writable=*/false));
    const absl::Status intact = VerifyChecksums(region->manifest, {view.data(), view.size()});
    if (!intact.ok()) {
      options_.on_damage(intact);
      return SendFdMessage(connection, intact.ToString(), {});
    }
  }
  TANDEM_RETURN_IF_ERROR(SendFdMessage(connection, kOk, {region->fd.get()}));
  return SendWindows(connection, *region);
}

// Made anew for each client: they are many, and only a driver's import keeps one.
absl::Status RegionServer::SendWindows(int connection, const Published& region) {
  const std::vector<ByteSpan>& windows = region.manifest.windows;
  for (std::size_t first = 0; first < windows.size(); first += kMaxFdsPerMessage) {
    std::vector<UniqueFd> made;
    std::vector<int> fds;
    for (std::size_t i = first; i < std::min(windows.size(), first + kMaxFdsPerMessage); ++i) {
      absl::StatusOr<UniqueFd> window =
          options_.udmabuf->Make(region.fd.get(), windows[i].offset, windows[i].bytes);
      if (!window.ok()) {
        spdlog::error("region '{}': {}", region.manifest.name, window.status().ToString());
        return SendFdMessage(connection, window.status().ToString(), {});
      }
      fds.push_back(window->get());
      made.push_back(*std::move(window));
    }
    TANDEM_RETURN_IF_ERROR(SendFdMessage(connection, kWindows, fds));
  }
  return absl::OkStatus();
}

absl::StatusOr<RegionDescriptors> FetchRegion(const std::string& socket_path,
                                              const RegionManifest& manifest,
                                              absl::Duration timeout) {
  const std::string where = absl::StrCat("region '", manifest.name, "' from '", socket_path, "'");
  const Deadline deadline = Deadline::After(timeout);
  const absl::StatusOr<UniqueFd> connection = ConnectUnix(socket_path, timeout);
  if (!connection.ok()) return Annotate(connection.status(), where);
  TANDEM_RETURN_IF_ERROR(Annotate(SendFdMessage(connection->get(), manifest.name, {}), where));
  absl::StatusOr<FdMessage> reply = ReceiveFdMessage(connection->get(), deadline.left());
  if (!reply.ok()) return Annotate(reply.status(), where);
  if (reply->bytes != kOk) return absl::NotFoundError(absl::StrCat(where, ": ", reply->bytes));
  if (reply->fds.size() != 1) {
    return absl::DataLossError(
        absl::StrCat(where, ": expected one descriptor, found ", reply->fds.size()));
  }
  RegionDescriptors descriptors;
  descriptors.memfd = std::move(reply->fds[0]);
  while (descriptors.windows.size() < manifest.windows.size()) {
    reply = ReceiveFdMessage(connection->get(), deadline.left());
    if (!reply.ok()) return Annotate(reply.status(), where);
    const std::size_t missing = manifest.windows.size() - descriptors.windows.size();
    if (reply->bytes != kWindows || reply->fds.empty() || reply->fds.size() > missing) {
      return absl::DataLossError(absl::StrCat(where, ": expected up to ", missing,
                                              " windows, found ", reply->fds.size(), " with '",
                                              reply->bytes.substr(0, 300), "'"));
    }
    for (UniqueFd& fd : reply->fds) descriptors.windows.push_back(std::move(fd));
  }
  return descriptors;
}

}  // namespace tandem
