#include "loader/serve/adopt.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/deadline.h"
#include "lib/base/status_macros.h"
#include "lib/base/unix_socket.h"
#include "lib/wire/weights_wire.h"
#include "tandem/v1/descriptors.pb.h"
#include "tandem/v1/loader.pb.h"

namespace tandem {
namespace {

// A worker answers at once, whatever else it does; one that hangs must not keep the model away.
constexpr absl::Duration kTimeout = absl::Seconds(5);
constexpr std::size_t kMostRegions = 4096;

bool SameLayout(const RegionManifest& a, const RegionManifest& b) {
  // Reserved huge pages round a region's size up; the tensors lie where they lay.
  if (a.name != b.name || a.bytes < b.bytes || a.tensors.size() != b.tensors.size()) return false;
  return std::equal(a.tensors.begin(), a.tensors.end(), b.tensors.begin(),
                    [](const TensorEntry& x, const TensorEntry& y) {
                      return x.id == y.id && x.shape == y.shape && x.format == y.format &&
                             x.value_offset == y.value_offset && x.value_bytes == y.value_bytes &&
                             x.scale_offset == y.scale_offset && x.scale_bytes == y.scale_bytes;
                    });
}

// Whether it is what it says, all but its contents.
absl::StatusOr<SealedRegion> Examine(const AdoptRequest& request, const v1::RegionGift& gift,
                                     std::vector<UniqueFd> fds) {
  if (fds.size() != 1)
    return absl::InvalidArgumentError(absl::StrCat("expected one descriptor, found ", fds.size()));
  SealedRegion region;
  TANDEM_ASSIGN_OR_RETURN(region.manifest, FromProto(gift.region(), request.config));
  const auto layout =
      std::find_if(request.layouts.begin(), request.layouts.end(),
                   [&](const RegionManifest& l) { return l.name == region.manifest.name; });
  if (layout == request.layouts.end() || !SameLayout(region.manifest, *layout))
    return absl::InvalidArgumentError("expected the layout that this loader makes");
  TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                          SharedMemory::Take(std::move(fds[0]), region.manifest.bytes));
  if (memory.kind != MemoryKind::kMemfd)
    return absl::InvalidArgumentError("expected a memfd, found a dma-buf");
  region.manifest.identity = memory.identity;
  region.manifest.windows.clear();
  region.fd = std::move(memory.fd);
  return region;
}

absl::Status Ask(const std::string& socket, const AdoptRequest& request,
                 std::map<std::string, SealedRegion>* regions) {
  const Deadline deadline = Deadline::After(kTimeout);
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd connection, ConnectUnix(socket, kTimeout));
  v1::DescriptorHello hello;
  hello.mutable_regions()->set_fingerprint(request.fingerprint);
  TANDEM_RETURN_IF_ERROR(
      SendFdMessage(connection.get(), hello.SerializeAsString(), {}, deadline.left()));
  for (std::size_t i = 0; i < kMostRegions; ++i) {
    TANDEM_ASSIGN_OR_RETURN(FdMessage message, ReceiveFdMessage(connection.get(), deadline.left()));
    v1::RegionGift gift;
    if (!gift.ParseFromString(message.bytes))
      return absl::InvalidArgumentError("expected a region, found something else");
    if (!gift.has_region()) return absl::OkStatus();
    // Two workers may hold the same one.
    if (regions->contains(gift.region().name())) continue;
    absl::StatusOr<SealedRegion> region = Examine(request, gift, std::move(message.fds));
    if (region.ok()) {
      regions->emplace(region->manifest.name, *std::move(region));
    } else {
      spdlog::warn("region '{}' of {} is not taken back: {}", gift.region().name().substr(0, 100),
                   socket, region.status().ToString());
    }
  }
  return absl::InvalidArgumentError("expected an end of the regions");
}

absl::Status Verify(const SealedRegion& region) {
  TANDEM_ASSIGN_OR_RETURN(const Mapping view, Mapping::Map(region.fd.get(), region.manifest.bytes,
                                                           /*writable=*/false));
  return VerifyChecksums(region.manifest, {view.data(), view.size()});
}

}  // namespace

std::vector<SealedRegion> AdoptRegions(const AdoptRequest& request, ThreadPool& pool) {
  std::map<std::string, SealedRegion> found;
  for (const std::string& socket : request.sockets) {
    const absl::Status asked = Ask(socket, request, &found);
    if (!asked.ok()) spdlog::debug("no regions from {}: {}", socket, asked.ToString());
  }
  std::vector<SealedRegion> regions;
  for (auto& [name, region] : found) regions.push_back(std::move(region));
  std::vector<absl::Status> verified(regions.size());
  pool.ParallelFor(
      static_cast<std::int64_t>(regions.size()), 1, [&](std::int64_t begin, std::int64_t end, int) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
          verified[i] = Verify(regions[i]);
      });
  std::vector<SealedRegion> taken;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    if (verified[i].ok()) {
      taken.push_back(std::move(regions[i]));
    } else {
      spdlog::error("a region is not taken back: {}", verified[i].ToString());
    }
  }
  return taken;
}

}  // namespace tandem
