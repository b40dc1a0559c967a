#include "loader/pack/model_packer.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/deadline.h"
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

// One region while it is packed. Its parts may be done by several threads at once; the one that
// does the last seals it.
class RegionJob {
 public:
  RegionJob(const ModelSource& source, RegionBuilder builder, const PackOptions& options)
      : source_(source), options_(options), builder_(std::move(builder)) {
    const std::vector<TensorEntry>& entries = builder_.manifest().tensors;
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
    parts_left_ = parts_.size();
  }

  RegionBuilder& builder() { return builder_; }
  std::size_t parts() const { return parts_.size(); }
  absl::Status Do(std::size_t part, Scratch& scratch) {
    TANDEM_RETURN_IF_ERROR(Pack(parts_[part], scratch));
    if (parts_left_.fetch_sub(1, std::memory_order_acq_rel) > 1) return absl::OkStatus();
    TANDEM_ASSIGN_OR_RETURN(sealed_, std::move(builder_).Finish());
    return absl::OkStatus();
  }
  // When all parts are done.
  SealedRegion Take() && { return std::move(sealed_); }

 private:
  absl::Status Pack(const Part& part, Scratch& scratch) {
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
  const PackOptions& options_;
  RegionBuilder builder_;
  std::vector<const SourceTensor*> tensors_;
  std::unique_ptr<std::atomic<std::int64_t>[]> rows_left_;
  std::vector<Part> parts_;
  std::atomic<std::size_t> parts_left_ = 0;
  SealedRegion sealed_;
};

// Where free memory is in small pieces, or a virtual machine's host has to find it first, this is
// slow; what is not asked for by then stays in small pages.
constexpr absl::Duration kMostTimeForPages = absl::Seconds(2);

// Before anything is written: page by page, as threads come to them, it would take ten times as
// long.
void MakeHugePages(const std::vector<std::unique_ptr<RegionJob>>& jobs, ThreadPool& pool) {
  std::vector<std::pair<RegionBuilder*, std::size_t>> pieces;
  for (const auto& job : jobs) {
    for (std::size_t i = 0; i < job->builder().pieces(); ++i)
      pieces.emplace_back(&job->builder(), i);
  }
  const Deadline deadline = Deadline::After(kMostTimeForPages);
  std::atomic<bool> refused = false;
  pool.ParallelFor(static_cast<std::int64_t>(pieces.size()), 1,
                   [&](std::int64_t begin, std::int64_t end, int) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       if (refused.load(std::memory_order_relaxed) || deadline.passed()) return;
                       const auto& [builder, piece] = pieces[static_cast<std::size_t>(i)];
                       if (!builder->MakeHugePages(piece)) refused = true;
                     }
                   });
}

// All parts of all jobs, in their order: what ends a region (its sums, unmapping) goes on beside
// the next one's parts.
absl::Status RunAll(const std::vector<std::unique_ptr<RegionJob>>& jobs, ThreadPool& pool) {
  std::vector<std::pair<RegionJob*, std::size_t>> parts;
  for (const auto& job : jobs) {
    for (std::size_t i = 0; i < job->parts(); ++i) parts.emplace_back(job.get(), i);
  }
  std::vector<Scratch> scratch(static_cast<std::size_t>(pool.threads()));
  std::atomic<bool> failed = false;
  std::mutex mutex;
  absl::Status first_error;  // guarded by mutex
  pool.ParallelFor(static_cast<std::int64_t>(parts.size()), 1,
                   [&](std::int64_t begin, std::int64_t end, int worker) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       if (failed.load(std::memory_order_relaxed)) return;
                       const auto& [job, part] = parts[static_cast<std::size_t>(i)];
                       const absl::Status status =
                           job->Do(part, scratch[static_cast<std::size_t>(worker)]);
                       if (status.ok()) continue;
                       const std::lock_guard lock(mutex);
                       if (first_error.ok()) first_error = status;
                       failed = true;
                     }
                   });
  return first_error;
}

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

absl::StatusOr<std::vector<SealedRegion>> ModelPacker::PackRegions(
    const std::vector<const RegionManifest*>& layouts, ThreadPool& pool,
    const PackOptions& options) const {
  std::vector<std::unique_ptr<RegionJob>> jobs;
  for (const RegionManifest* layout : layouts) {
    TANDEM_ASSIGN_OR_RETURN(RegionBuilder builder,
                            RegionBuilder::Create(*layout, options.huge_pages));
    jobs.push_back(std::make_unique<RegionJob>(*source_, std::move(builder), options));
  }
  MakeHugePages(jobs, pool);
  TANDEM_RETURN_IF_ERROR(RunAll(jobs, pool));
  std::vector<SealedRegion> regions;
  for (const auto& job : jobs) regions.push_back(std::move(*job).Take());
  return regions;
}

void ModelPacker::ReportWhole(const RegionManifest& layout, const PackOptions& options) const {
  if (!options.on_progress) return;
  for (const TensorEntry& entry : layout.tensors)
    options.on_progress({&source_->Find(entry.id), entry.value_bytes + entry.scale_bytes, true});
}

absl::StatusOr<std::vector<SealedRegion>> ModelPacker::Pack(
    ThreadPool& pool, const PackOptions& options, std::vector<SealedRegion> finished) const {
  std::vector<const RegionManifest*> missing;
  std::vector<SealedRegion*> there;  // of each layout; null where it is missing
  for (const RegionManifest& layout : layouts_) {
    const auto found = std::find_if(
        finished.begin(), finished.end(),
        [&](const SealedRegion& region) { return region.manifest.name == layout.name; });
    there.push_back(found == finished.end() ? nullptr : &*found);
    if (there.back() == nullptr) {
      missing.push_back(&layout);
    } else {
      ReportWhole(layout, options);
    }
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<SealedRegion> packed, PackRegions(missing, pool, options));
  std::vector<SealedRegion> regions;
  auto next = packed.begin();
  for (SealedRegion* const region : there) {
    regions.push_back(std::move(region == nullptr ? *next++ : *region));
  }
  return regions;
}

absl::Status ModelPacker::Check(ThreadPool& pool, const PackOptions& options) const {
  // One at a time: no more memory than the largest takes.
  for (const RegionManifest& layout : layouts_) {
    TANDEM_RETURN_IF_ERROR(PackRegions({&layout}, pool, options).status());
  }
  return absl::OkStatus();
}

}  // namespace tandem
