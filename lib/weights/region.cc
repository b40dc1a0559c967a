#include "lib/weights/region.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/checksum.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

struct RegionPart {
  WeightPart part;
  std::int32_t layer;
};

absl::StatusOr<RegionPart> PartOfRegion(const std::string& name, const ModelConfig& config) {
  if (name == RegionName(WeightPart::kEmbedding, -1)) return RegionPart{WeightPart::kEmbedding, -1};
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const WeightPart part : {WeightPart::kAttention, WeightPart::kFfn}) {
      if (name == RegionName(part, layer)) return RegionPart{part, layer};
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "region '", name, "': expected a region of a model with ", config.num_layers, " layers"));
}

absl::Status CheckFormat(TensorId id, WeightFormat format) {
  if (IsMatrix(id.kind) != (format == WeightFormat::kF32)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tensor '", TensorName(id), "': expected format ",
                                                 IsMatrix(id.kind) ? "bf16, int8 or int4" : "f32",
                                                 ", found ", AbslView(WeightFormatName(format))));
}

// One plane: `expected_bytes` long, aligned, after `end` (which it moves), inside the region.
absl::Status CheckPlane(const char* plane, std::uint64_t offset, std::uint64_t bytes,
                        std::uint64_t expected_bytes, std::uint64_t region_bytes,
                        std::uint64_t& end) {
  if (bytes != expected_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(plane, " plane: expected ", expected_bytes, " bytes, found ", bytes));
  }
  if (bytes == 0) {
    if (offset == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(plane, " plane: expected offset 0 for no bytes, found ", offset));
  }
  if (offset % kPlaneAlignment != 0 || offset < end) {
    return absl::InvalidArgumentError(
        absl::StrCat(plane, " plane: expected an offset that is a multiple of ", kPlaneAlignment,
                     " and at least ", end, ", found ", offset));
  }
  if (offset > region_bytes || bytes > region_bytes - offset) {
    return absl::InvalidArgumentError(
        absl::StrCat(plane, " plane: expected an end inside the region's ", region_bytes,
                     " bytes, found offset ", offset, " with ", bytes, " bytes"));
  }
  end = offset + bytes;
  return absl::OkStatus();
}

absl::Status CheckEntry(const TensorEntry& entry, const ModelConfig& config,
                        std::uint64_t region_bytes, std::uint64_t& end) {
  const TensorShape shape = ShapeOf(config, entry.id.kind);
  if (entry.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat("expected shape (", shape.rows, ", ", shape.cols,
                                                   "), found (", entry.shape.rows, ", ",
                                                   entry.shape.cols, ")"));
  }
  TANDEM_RETURN_IF_ERROR(CheckFormat(entry.id, entry.format));
  TANDEM_ASSIGN_OR_RETURN(const PlaneSizes sizes, PlaneSizesOf(entry.format, shape));
  TANDEM_RETURN_IF_ERROR(CheckPlane("value", entry.value_offset, entry.value_bytes,
                                    sizes.value_bytes, region_bytes, end));
  return CheckPlane("scale", entry.scale_offset, entry.scale_bytes, sizes.scale_bytes, region_bytes,
                    end);
}

std::uint16_t Load16(std::span<const std::byte> bytes, std::size_t index) {
  std::uint16_t value;
  std::memcpy(&value, bytes.data() + index * 2, 2);
  return value;
}

absl::Status CheckWindows(const RegionManifest& manifest) {
  std::uint64_t last = 0;
  for (const ByteSpan& window : manifest.windows) {
    if (window.bytes == 0 || window.offset % kPlaneAlignment != 0 ||
        window.bytes % kPlaneAlignment != 0 || window.offset > manifest.bytes ||
        window.bytes > manifest.bytes - window.offset || window.offset < last) {
      return absl::InvalidArgumentError(absl::StrCat(
          "window of ", window.bytes, " bytes at ", window.offset, ": expected whole pages inside ",
          manifest.bytes, " bytes, in ascending order"));
    }
    last = window.offset;
  }
  return absl::OkStatus();
}

// The dma-bufs show these pages: right in number, in size, and in the first page of each.
absl::Status CheckWindowFds(const RegionManifest& manifest, std::span<const std::byte> bytes,
                            const std::vector<UniqueFd>& fds) {
  if (fds.size() != manifest.windows.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", manifest.windows.size(), " windows, found ", fds.size()));
  }
  for (std::size_t i = 0; i < fds.size(); ++i) {
    const ByteSpan& window = manifest.windows[i];
    const std::string where = absl::StrCat("window at ", window.offset);
    if (!IsDmaBuf(fds[i].get()))
      return absl::InvalidArgumentError(absl::StrCat(where, ": expected a dma-buf"));
    const absl::StatusOr<Mapping> view =
        Mapping::Map(fds[i].get(), window.bytes, /*writable=*/false);
    if (!view.ok()) return Annotate(view.status(), where);
    if (std::memcmp(view->data(), bytes.data() + window.offset, kPlaneAlignment) != 0)
      return absl::DataLossError(absl::StrCat(where, ": expected the region's pages there"));
  }
  return absl::OkStatus();
}

// Calls `add` for the bytes of each group of kChunkRows rows, plane by plane, in ascending order.
template <typename Function>
absl::Status ForEachGroup(const TensorEntry& tensor, const Function& add) {
  const auto rows = static_cast<std::uint64_t>(tensor.shape.rows);
  for (const ByteSpan& plane : {ByteSpan{tensor.value_offset, tensor.value_bytes},
                                ByteSpan{tensor.scale_offset, tensor.scale_bytes}}) {
    const std::uint64_t row = plane.bytes / rows;
    for (std::uint64_t first = 0; row != 0 && first < rows; first += kChunkRows) {
      const std::uint64_t count = std::min<std::uint64_t>(kChunkRows, rows - first);
      TANDEM_RETURN_IF_ERROR(add(ByteSpan{plane.offset + first * row, count * row}));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::uint64_t TensorChecksum(std::span<const std::byte> values, std::span<const std::byte> scales) {
  return Checksum(values) * 31 + Checksum(scales);
}

absl::Status ValidateManifest(const RegionManifest& manifest, const ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const RegionPart part, PartOfRegion(manifest.name, config));
  const std::vector<TensorId> expected = TensorsOf(config, part.part, part.layer);
  const std::string where = absl::StrCat("region '", manifest.name, "'");
  if (manifest.tensors.size() != expected.size()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": expected ", expected.size(),
                                                   " tensors, found ", manifest.tensors.size()));
  }
  if (manifest.bytes == 0 || manifest.bytes % kPlaneAlignment != 0) {
    return absl::InvalidArgumentError(absl::StrCat(where,
                                                   ": expected a size that is a multiple of ",
                                                   kPlaneAlignment, ", found ", manifest.bytes));
  }
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i) {
    const TensorEntry& entry = manifest.tensors[i];
    const std::string tensor = absl::StrCat(where, " tensor '", TensorName(entry.id), "'");
    if (std::find(expected.begin(), expected.end(), entry.id) == expected.end()) {
      return absl::InvalidArgumentError(absl::StrCat(tensor, ": expected a tensor of this region"));
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (manifest.tensors[j].id == entry.id) {
        return absl::InvalidArgumentError(absl::StrCat(tensor, ": expected once, found twice"));
      }
    }
    TANDEM_RETURN_IF_ERROR(Annotate(CheckEntry(entry, config, manifest.bytes, end), tensor));
  }
  return Annotate(CheckWindows(manifest), where);
}

absl::StatusOr<std::vector<ByteSpan>> WindowsOf(const RegionManifest& manifest,
                                                std::uint64_t max_bytes) {
  std::vector<ByteSpan> windows;
  for (const TensorEntry& tensor : manifest.tensors) {
    const absl::Status added = ForEachGroup(tensor, [&](const ByteSpan& group) -> absl::Status {
      const std::uint64_t begin = group.offset / kPlaneAlignment * kPlaneAlignment;
      const std::uint64_t end = RoundUp(group.offset + group.bytes, kPlaneAlignment);
      if (!windows.empty() && end - windows.back().offset <= max_bytes) {
        windows.back().bytes = std::max(windows.back().bytes, end - windows.back().offset);
        return absl::OkStatus();
      }
      if (end - begin > max_bytes) {
        return absl::UnimplementedError(absl::StrCat(
            "tensor ", TensorName(tensor.id), ": ", kChunkRows, " rows of ",
            group.bytes / kChunkRows, " bytes do not fit into a window of ", max_bytes, " bytes"));
      }
      windows.push_back({begin, end - begin});
      return absl::OkStatus();
    });
    TANDEM_RETURN_IF_ERROR(added);
  }
  return windows;
}

absl::StatusOr<RegionManifest> LayOutRegion(std::string name, const ModelConfig& config,
                                            const std::vector<TensorId>& tensors,
                                            const std::vector<WeightFormat>& formats) {
  TANDEM_CHECK(tensors.size() == formats.size());
  RegionManifest manifest;
  manifest.name = std::move(name);
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    TensorEntry entry;
    entry.id = tensors[i];
    entry.shape = ShapeOf(config, tensors[i].kind);
    entry.format = formats[i];
    const absl::StatusOr<PlaneSizes> sizes = PlaneSizesOf(entry.format, entry.shape);
    if (!sizes.ok())
      return Annotate(sizes.status(), absl::StrCat("tensor '", TensorName(entry.id), "'"));
    entry.value_offset = end;
    entry.value_bytes = sizes->value_bytes;
    end = RoundUp(end + entry.value_bytes, kPlaneAlignment);
    if (sizes->scale_bytes != 0) {
      entry.scale_offset = end;
      entry.scale_bytes = sizes->scale_bytes;
      end = RoundUp(end + entry.scale_bytes, kPlaneAlignment);
    }
    manifest.tensors.push_back(entry);
  }
  manifest.bytes = end;
  TANDEM_RETURN_IF_ERROR(ValidateManifest(manifest, config));
  return manifest;
}

absl::Status VerifyChecksums(const RegionManifest& manifest, std::span<const std::byte> bytes) {
  for (const TensorEntry& entry : manifest.tensors) {
    const std::uint64_t found =
        TensorChecksum(bytes.subspan(entry.value_offset, entry.value_bytes),
                       bytes.subspan(entry.scale_offset, entry.scale_bytes));
    if (found == entry.checksum) continue;
    return absl::DataLossError(absl::StrCat("region '", manifest.name, "' tensor '",
                                            TensorName(entry.id), "': expected checksum ",
                                            absl::Hex(entry.checksum, absl::kZeroPad16), ", found ",
                                            absl::Hex(found, absl::kZeroPad16)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Region>> Region::Open(UniqueFd fd, RegionManifest manifest,
                                                           const ModelConfig& config,
                                                           bool verify_checksums,
                                                           std::vector<UniqueFd> windows) {
  const std::string where = absl::StrCat("region '", manifest.name, "'");
  TANDEM_RETURN_IF_ERROR(ValidateManifest(manifest, config));
  TANDEM_RETURN_IF_ERROR(Annotate(CheckSealedSize(fd.get(), manifest.bytes), where));
  absl::StatusOr<Mapping> mapping = Mapping::Map(fd.get(), manifest.bytes, /*writable=*/false);
  if (!mapping.ok()) return Annotate(mapping.status(), where);

  std::shared_ptr<Region> region(new Region());
  region->fd_ = std::move(fd);
  region->mapping_ = *std::move(mapping);
  region->manifest_ = std::move(manifest);
  if (verify_checksums) TANDEM_RETURN_IF_ERROR(VerifyChecksums(region->manifest_, region->bytes()));
  if (!windows.empty()) {
    TANDEM_RETURN_IF_ERROR(
        Annotate(CheckWindowFds(region->manifest_, region->bytes(), windows), where));
    region->windows_ = std::move(windows);
  }
  return std::shared_ptr<const Region>(std::move(region));
}

std::span<const std::byte> Region::bytes() const { return {mapping_.data(), mapping_.size()}; }

absl::StatusOr<TensorView> Region::Find(TensorId id) const {
  for (const TensorEntry& entry : manifest_.tensors) {
    if (entry.id != id) continue;
    return TensorView{entry.shape, entry.format,
                      bytes().subspan(entry.value_offset, entry.value_bytes),
                      bytes().subspan(entry.scale_offset, entry.scale_bytes)};
  }
  return absl::NotFoundError(
      absl::StrCat("region '", manifest_.name, "' has no tensor '", TensorName(id), "'"));
}

void DequantizeRow(const TensorView& tensor, std::int64_t row, std::span<float> out) {
  TANDEM_CHECK(row >= 0 && row < tensor.shape.rows);
  TANDEM_CHECK(static_cast<std::int64_t>(out.size()) == tensor.shape.cols);
  const auto cols = static_cast<std::size_t>(tensor.shape.cols);
  const std::size_t first = static_cast<std::size_t>(row) * cols;
  for (std::size_t i = 0; i < cols; ++i) {
    const std::size_t at = first + i;
    const std::size_t group = at / kGroupSize;
    switch (tensor.format) {
      case WeightFormat::kF32:
        std::memcpy(&out[i], tensor.values.data() + at * 4, 4);
        break;
      case WeightFormat::kBf16:
        out[i] = Bf16ToFloat(Load16(tensor.values, at));
        break;
      case WeightFormat::kInt8:
        out[i] = static_cast<float>(static_cast<std::int8_t>(tensor.values[at])) *
                 HalfToFloat(Load16(tensor.scales, group));
        break;
      case WeightFormat::kInt4: {
        const std::size_t column = at % kGroupSize;
        const auto packed = static_cast<unsigned>(tensor.values[group * 16 + column % 16]);
        const int nibble = static_cast<int>(column < 16 ? packed & 15u : packed >> 4);
        out[i] = static_cast<float>(nibble - 8) * HalfToFloat(Load16(tensor.scales, group));
        break;
      }
    }
  }
}

}  // namespace tandem
