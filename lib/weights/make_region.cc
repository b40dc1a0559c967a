#include "lib/weights/make_region.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/huge_pages.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/weights/quantize.h"

namespace tandem {
namespace {

// A descriptor of the same pages that was opened for reading: nobody who gets it writes to them by
// mistake.
absl::StatusOr<UniqueFd> ReopenReadOnly(int fd) {
  const std::string path = absl::StrCat("/proc/self/fd/", fd);
  UniqueFd reopened(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reopened.valid())
    return absl::ErrnoToStatus(errno, absl::StrCat("reopening ", path, " read-only"));
  return reopened;
}

}  // namespace

absl::StatusOr<RegionBuilder> RegionBuilder::Create(RegionManifest manifest, bool huge_pages) {
  RegionBuilder builder;
  // Half-empty huge pages would cost a small region more than they bring.
  const bool worth_it = huge_pages && manifest.bytes >= 4 * kHugePageBytes;
  absl::StatusOr<SharedMemory> memory =
      SharedMemory::Create(absl::StrCat("tandem-", manifest.name),
                           worth_it ? RoundUp(manifest.bytes, kHugePageBytes) : manifest.bytes,
                           worth_it, &builder.has_reserved_pages_);
  if (!memory.ok()) return Annotate(memory.status(), absl::StrCat("region '", manifest.name, "'"));
  builder.memory_ = *std::move(memory);
  if (huge_pages && !builder.has_reserved_pages_) {
    builder.piece_bytes_.resize(CeilDiv(builder.memory_.mapping.size(), kHugePieceBytes));
  }
  if (builder.has_reserved_pages_) manifest.bytes = RoundUp(manifest.bytes, kHugePageBytes);
  builder.summed_.assign(manifest.tensors.size(), 0);
  builder.manifest_ = std::move(manifest);
  return builder;
}

bool RegionBuilder::MakeHugePages(std::size_t piece) {
  const std::span<std::byte> all(memory_.mapping.data(), memory_.mapping.size());
  const std::size_t first = piece * kHugePieceBytes;
  const std::size_t bytes = std::min(kHugePieceBytes, all.size() - first);
  piece_bytes_[piece] = tandem::MakeHugePages(all.subspan(first, bytes));
  return piece_bytes_[piece] > 0 || bytes < kHugePageBytes;
}

std::span<std::byte> RegionBuilder::values(std::size_t tensor) {
  const TensorEntry& entry = manifest_.tensors.at(tensor);
  return {memory_.mapping.data() + entry.value_offset, entry.value_bytes};
}

std::span<std::byte> RegionBuilder::scales(std::size_t tensor) {
  const TensorEntry& entry = manifest_.tensors.at(tensor);
  return {memory_.mapping.data() + entry.scale_offset, entry.scale_bytes};
}

void RegionBuilder::Sum(std::size_t tensor) {
  manifest_.tensors.at(tensor).checksum = TensorChecksum(values(tensor), scales(tensor));
  summed_[tensor] = 1;
}

absl::StatusOr<SealedRegion> RegionBuilder::Finish() && {
  for (std::size_t i = 0; i < summed_.size(); ++i) {
    if (summed_[i] == 0) Sum(i);
  }
  memory_.mapping = Mapping();
  const std::string where = absl::StrCat("region '", manifest_.name, "'");
  TANDEM_RETURN_IF_ERROR(Annotate(SealForGood(memory_.fd.get()), where));
  absl::StatusOr<UniqueFd> fd = ReopenReadOnly(memory_.fd.get());
  if (!fd.ok()) return Annotate(fd.status(), where);
  manifest_.identity = memory_.identity;
  const std::uint64_t huge_bytes =
      has_reserved_pages_
          ? manifest_.bytes
          : std::accumulate(piece_bytes_.begin(), piece_bytes_.end(), std::uint64_t{0});
  return SealedRegion{std::move(manifest_), *std::move(fd), huge_bytes};
}

absl::StatusOr<std::shared_ptr<const Region>> MakeRegion(const ModelConfig& config, WeightPart part,
                                                         std::int32_t layer,
                                                         WeightFormat matrix_format,
                                                         const FloatRowSource& source) {
  const std::vector<TensorId> ids = TensorsOf(config, part, layer);
  std::vector<WeightFormat> formats;
  for (const TensorId id : ids)
    formats.push_back(IsMatrix(id.kind) ? matrix_format : WeightFormat::kF32);
  TANDEM_ASSIGN_OR_RETURN(RegionManifest manifest,
                          LayOutRegion(RegionName(part, layer), config, ids, formats));
  TANDEM_ASSIGN_OR_RETURN(RegionBuilder builder,
                          RegionBuilder::Create(std::move(manifest), /*huge_pages=*/false));
  std::vector<float> row;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const TensorShape shape = ShapeOf(config, ids[i].kind);
    row.resize(static_cast<std::size_t>(shape.cols));
    const RowBytes bytes = RowBytesOf(formats[i], shape.cols);
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      source(ids[i], r, row);
      const auto at = static_cast<std::size_t>(r);
      if (!QuantizeRow(row, formats[i], builder.values(i).subspan(at * bytes.values, bytes.values),
                       builder.scales(i).subspan(at * bytes.scales, bytes.scales))) {
        return absl::InvalidArgumentError(absl::StrCat(
            "tensor '", TensorName(ids[i]), "': expected finite values, found one in row ", r,
            " that is not in ", AbslView(WeightFormatName(formats[i]))));
      }
    }
  }
  TANDEM_ASSIGN_OR_RETURN(SealedRegion sealed, std::move(builder).Finish());
  return Region::Open(std::move(sealed.fd), std::move(sealed.manifest), config,
                      /*verify_checksums=*/false);
}

}  // namespace tandem
