#include "loader/pack/model_packer.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/weights/quantize.h"
#include "loader/pack/pack_rows.h"

namespace tandem {
namespace {

// of the file: fits the second-level cache with its output
constexpr std::uint64_t kPartBytes = 1 << 20;

struct Part {
  std::size_t tensor = 0;  // index into the region's manifest
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

// Working memory of one thread.
struct Scratch {
  std::vector<std::byte> raw;
  std::vector<float> floats;
};

// The parts of one region on their way through the pool.
class RegionJob {
 public:
  RegionJob(const ModelSource& source, RegionBuilder& builder, const PackOptions& options,
            int threads)
      : source_(source),
        builder_(builder),
        options_(options),
        scratch_(static_cast<std::size_t>(threads)) {
    const std::vector<TensorEntry>& entries = builder.manifest().tensors;
    rows_left_ = std::make_unique<std::atomic<std::int64_t>[]>(entries.size());
    for (std::size_t t = 0; t < entries.size(); ++t) {
      const SourceTensor& tensor = source.Find(entries[t].id);
      tensors_.push_back(&tensor);
      rows_left_[t] = tensor.shape.rows;
      const std::uint64_t row_bytes = RowBytesOf(tensor.type, tensor.shape.cols);
      const std::int64_t step =
          std::max<std::int64_t>(1, static_cast<std::int64_t>(kPartBytes / row_bytes));
      for (std::int64_t row = 0; row < tensor.shape.rows; row += step) {
        parts_.push_back({t, row, std::min(step, tensor.shape.rows - row)});
      }
    }
  }

  absl::Status Run(ThreadPool& pool) {
    pool.ParallelFor(
        static_cast<std::int64_t>(parts_.size()), 1,
        [this](std::int64_t begin, std::int64_t end, int worker) {
          for (std::int64_t i = begin; i < end && !failed_.load(std::memory_order_relaxed); ++i) {
            const absl::Status status = DoPart(parts_[static_cast<std::size_t>(i)],
                                               scratch_[static_cast<std::size_t>(worker)]);
            if (!status.ok()) Fail(status);
          }
        });
    return first_error_;
  }

 private:
  void Fail(const absl::Status& status) {
    const std::lock_guard lock(mutex_);
    if (first_error_.ok()) first_error_ = status;
    failed_ = true;
  }

  absl::Status DoPart(const Part& part, Scratch& scratch) {
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed))
      return absl::CancelledError("loading was cancelled");
    const SourceTensor& tensor = *tensors_[part.tensor];
    const TensorEntry& entry = builder_.manifest().tensors[part.tensor];
    const PackJob job{tensor.type, entry.format, tensor.shape.cols,
                      IsMatrix(entry.id.kind) ? 0.0f : source_.vector_offset()};
    const RowBytes row = RowBytesOf(entry.format, tensor.shape.cols);
    const auto first = static_cast<std::size_t>(part.first_row);
    const auto rows = static_cast<std::size_t>(part.rows);
    const std::span<std::byte> values =
        builder_.values(part.tensor).subspan(first * row.values, rows * row.values);
    const std::span<std::byte> scales =
        builder_.scales(part.tensor).subspan(first * row.scales, rows * row.scales);

    std::span<std::byte> raw = values;
    if (!IsVerbatim(job)) {
      scratch.raw.resize(
          std::max(scratch.raw.size(), rows * RowBytesOf(tensor.type, tensor.shape.cols)));
      raw = std::span(scratch.raw).first(rows * RowBytesOf(tensor.type, tensor.shape.cols));
    }
    TANDEM_RETURN_IF_ERROR(source_.ReadRows(tensor, part.first_row, part.rows, raw));
    if (!PackRows(job, raw, values, scales, scratch.floats)) {
      return absl::InvalidArgumentError(
          Cat(source_.PathOf(tensor), ": tensor ", QuotedName(tensor.name),
              ": expected finite values and scales that fit ", WeightFormatName(entry.format),
              ", found another in rows ", part.first_row, " to ", part.first_row + part.rows - 1));
    }
    Report(part, tensor, values.size() + scales.size());
    return absl::OkStatus();
  }

  void Report(const Part& part, const SourceTensor& tensor, std::uint64_t bytes) {
    const bool done =
        rows_left_[part.tensor].fetch_sub(part.rows, std::memory_order_acq_rel) == part.rows;
    // Whoever wrote the last part sums the tensor: all its rows are there, and other threads go on
    // meanwhile.
    if (done) builder_.Sum(part.tensor);
    if (options_.on_progress) options_.on_progress({&tensor, bytes, done});
  }

  const ModelSource& source_;
  RegionBuilder& builder_;
  const PackOptions& options_;
  std::vector<const SourceTensor*> tensors_;
  std::unique_ptr<std::atomic<std::int64_t>[]> rows_left_;
  std::vector<Part> parts_;
  std::vector<Scratch> scratch_;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  absl::Status first_error_;  // guarded by mutex_ while threads run
};

absl::StatusOr<RegionManifest> LayOut(const ModelSource& source, QuantMode mode, WeightPart part,
                                      std::int32_t layer) {
  const std::vector<TensorId> ids = TensorsOf(source.config(), part, layer);
  std::vector<WeightFormat> formats;
  for (const TensorId id : ids) {
    const SourceTensor& tensor = source.Find(id);
    formats.push_back(FormatFor(mode, id.kind, tensor.type));
    const absl::StatusOr<PlaneSizes> sizes = PlaneSizesOf(formats.back(), tensor.shape);
    if (!sizes.ok())
      return Annotate(sizes.status(),
                      Cat(source.PathOf(tensor), ": tensor ", QuotedName(tensor.name)));
  }
  return LayOutRegion(RegionName(part, layer), source.config(), ids, formats);
}

}  // namespace

absl::StatusOr<ModelPacker> ModelPacker::Create(const ModelSource& source, QuantMode mode) {
  ModelPacker packer(source);
  const auto add = [&](WeightPart part, std::int32_t layer) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(RegionManifest layout, LayOut(source, mode, part, layer));
    for (const TensorEntry& entry : layout.tensors)
      packer.total_bytes_ += entry.value_bytes + entry.scale_bytes;
    packer.layouts_.push_back(std::move(layout));
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(add(WeightPart::kEmbedding, -1));
  for (std::int32_t layer = 0; layer < source.config().num_layers; ++layer) {
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kAttention, layer));
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kFfn, layer));
  }
  return packer;
}

std::uint32_t ModelPacker::total_tensors() const {
  std::size_t count = 0;
  for (const RegionManifest& layout : layouts_) count += layout.tensors.size();
  return static_cast<std::uint32_t>(count);
}

std::string_view ModelPacker::weight_format() const {
  const WeightFormat first = layouts_.front().tensors.front().format;  // the embedding's
  for (const RegionManifest& layout : layouts_) {
    for (const TensorEntry& entry : layout.tensors) {
      if (IsMatrix(entry.id.kind) && entry.format != first) return "mixed";
    }
  }
  return WeightFormatName(first);
}

absl::StatusOr<SealedRegion> ModelPacker::PackRegion(const RegionManifest& layout, ThreadPool& pool,
                                                     const PackOptions& options) const {
  TANDEM_ASSIGN_OR_RETURN(RegionBuilder builder, RegionBuilder::Create(layout, options.huge_pages));
  RegionJob job(*source_, builder, options, pool.threads());
  TANDEM_RETURN_IF_ERROR(job.Run(pool));
  return std::move(builder).Finish();
}

void ModelPacker::ReportWhole(const RegionManifest& layout, const PackOptions& options) const {
  if (!options.on_progress) return;
  for (const TensorEntry& entry : layout.tensors)
    options.on_progress({&source_->Find(entry.id), entry.value_bytes + entry.scale_bytes, true});
}

absl::StatusOr<std::vector<SealedRegion>> ModelPacker::Pack(
    ThreadPool& pool, const PackOptions& options, std::vector<SealedRegion> finished) const {
  std::vector<SealedRegion> regions;
  for (const RegionManifest& layout : layouts_) {
    const auto there = std::find_if(finished.begin(), finished.end(), [&](const SealedRegion& r) {
      return r.manifest.name == layout.name;
    });
    if (there != finished.end()) {
      ReportWhole(layout, options);
      regions.push_back(std::move(*there));
      finished.erase(there);
      continue;
    }
    TANDEM_ASSIGN_OR_RETURN(SealedRegion region, PackRegion(layout, pool, options));
    regions.push_back(std::move(region));
  }
  return regions;
}

absl::Status ModelPacker::Check(ThreadPool& pool, const PackOptions& options) const {
  for (const RegionManifest& layout : layouts_) {
    TANDEM_RETURN_IF_ERROR(PackRegion(layout, pool, options).status());
  }
  return absl::OkStatus();
}

}  // namespace tandem
