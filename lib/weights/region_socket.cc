#include "lib/weights/region_socket.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
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
  server->path_ = path;
  server->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!server->stop_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  TANDEM_ASSIGN_OR_RETURN(server->listener_, ListenUnix(path));
  server->thread_ = std::thread([raw = server.get()] { raw->Serve(); });
  return server;
}

RegionServer::~RegionServer() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  TANDEM_CHECK(::write(stop_.get(), &one, sizeof(one)) == sizeof(one));
  thread_.join();
  ::unlink(path_.c_str());
}

absl::Status RegionServer::Publish(const RegionManifest& manifest, UniqueFd fd) {
  const std::lock_guard lock(mutex_);
  if (!regions_.emplace(manifest.name, std::move(fd)).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("region '", manifest.name, "' is published already"));
  }
  return absl::OkStatus();
}

void RegionServer::Serve() {
  while (true) {
    const absl::StatusOr<UniqueFd> connection = AcceptUnix(listener_.get(), stop_.get());
    if (!connection.ok()) return;  // told to stop, or the listener is gone
    // A client that breaks the exchange hurts itself only: its connection is closed.
    Answer(connection->get()).IgnoreError();
  }
}

absl::Status RegionServer::Answer(int connection) {
  TANDEM_ASSIGN_OR_RETURN(const FdMessage request, ReceiveFdMessage(connection, kRequestTimeout));
  UniqueFd copy;  // so that no lock is held while the answer is sent
  {
    const std::lock_guard lock(mutex_);
    const auto it = regions_.find(request.bytes);
    if (it != regions_.end()) copy = UniqueFd(::dup(it->second.get()));
  }
  if (copy.valid()) return SendFdMessage(connection, kOk, {copy.get()});
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
