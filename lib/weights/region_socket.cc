#include "lib/weights/region_socket.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

constexpr char kOk[] = "ok";
// A client writes its request right after it connects. One that does not would keep the others
// waiting.
constexpr absl::Duration kRequestTimeout = absl::Milliseconds(500);

}  // namespace

absl::StatusOr<std::unique_ptr<RegionServer>> RegionServer::Listen(const std::string& path) {
  std::unique_ptr<RegionServer> server(new RegionServer());
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
  const std::lock_guard lock(mutex_);
  if (!regions_.emplace(manifest.name, std::make_shared<const UniqueFd>(std::move(fd))).second) {
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
  std::shared_ptr<const UniqueFd> fd;
  {
    const std::lock_guard lock(mutex_);
    const auto it = regions_.find(request.bytes);
    if (it != regions_.end()) fd = it->second;
  }
  if (fd != nullptr) return SendFdMessage(connection, kOk, {fd->get()});
  return SendFdMessage(
      connection, absl::StrCat("region '", request.bytes.substr(0, 100), "' is not published"), {});
}

absl::StatusOr<UniqueFd> FetchRegionFd(const std::string& socket_path,
                                       const std::string& region_name, absl::Duration timeout) {
  const std::string where = absl::StrCat("region '", region_name, "' from '", socket_path, "'");
  const absl::StatusOr<UniqueFd> connection = ConnectUnix(socket_path, timeout);
  if (!connection.ok()) return Annotate(connection.status(), where);
  TANDEM_RETURN_IF_ERROR(Annotate(SendFdMessage(connection->get(), region_name, {}), where));
  absl::StatusOr<FdMessage> reply = ReceiveFdMessage(connection->get(), timeout);
  if (!reply.ok()) return Annotate(reply.status(), where);
  if (reply->bytes != kOk) return absl::NotFoundError(absl::StrCat(where, ": ", reply->bytes));
  if (reply->fds.size() != 1) {
    return absl::DataLossError(
        absl::StrCat(where, ": expected one descriptor, found ", reply->fds.size()));
  }
  return std::move(reply->fds[0]);
}

}  // namespace tandem
