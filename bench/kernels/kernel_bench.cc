// How near the kernels come to the device. Prints one row a kernel, shape and number of tokens: the
// time of a dispatch with a barrier behind it, GB/s of weights beside the copy bandwidth of the
// same run, TFLOP/s. Needs nothing but a Vulkan driver.
//
//   kernel_bench [--device NAME] [--model 1b|4b|12b|27b|small] [--only PART]
//       [--tokens N] [--all]
//
// --only: rows whose "FORMAT/PRODUCT" contains PART. --tokens: rows of so many tokens. --all: every variant, not only the best.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bench/kernels/bench_device.h"
#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/kernel_table.h"
#include "gpu-worker/stage/tuning.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/weights/region.h"

namespace tandem {
namespace {

using vulkan::Buffer;

struct Options {
  std::string device = "auto";
  std::string model = "27b";
  std::string only;
  std::uint32_t tokens = 0;
  bool all = false;
};

struct Product {
  const char* name;
  std::uint32_t rows;
  std::uint32_t cols;
};

struct Model {
  const char* name;
  std::vector<Product> products;
};

const std::vector<Model>& Models() {
  static const auto* const models =
      new std::vector<Model>{{"1b",
                              {{"qkv", 1536, 1152},
                               {"o", 1152, 1024},
                               {"gate_up", 13824, 1152},
                               {"down", 1152, 6912},
                               {"head", 262144, 1152}}},
                             {"4b",
                              {{"qkv", 4096, 2560},
                               {"o", 2560, 2048},
                               {"gate_up", 20480, 2560},
                               {"down", 2560, 10240},
                               {"head", 262144, 2560}}},
                             {"12b",
                              {{"qkv", 8192, 3840},
                               {"o", 3840, 4096},
                               {"gate_up", 30720, 3840},
                               {"down", 3840, 15360},
                               {"head", 262144, 3840}}},
                             {"27b",
                              {{"qkv", 8192, 5376},
                               {"o", 5376, 4096},
                               {"gate_up", 43008, 5376},
                               {"down", 5376, 21504},
                               {"head", 262144, 5376}}},
                             {"small", {{"gate_up", 1024, 512}, {"down", 512, 2048}}}};
  return *models;
}

// One way to run a product.
struct Variant {
  std::string kernel;
  std::vector<std::uint32_t> constants;
  std::uint32_t rows = 0;  // of a workgroup
  // Workgroups that share out the tokens; 0: one has all of them, and rows fill two dimensions.
  std::uint32_t across = 0;
  std::uint32_t pad = 1;
  std::uint32_t parts = 1;
};

// Everything that one product of one format needs on the device.
struct Rig {
  Product product;
  std::string format;
  // The values of all copies (so that no cache holds them), then their scales.
  Buffer weights;
  std::uint32_t copies = 0;
  std::uint32_t chunk_rows = 0;  // that one dispatch takes, as more cannot be bound at once
  std::uint64_t value_bytes = 0;
  std::uint64_t scale_bytes = 0;
  Buffer step;
  Buffer input;
  Buffer output;

  double bytes() const { return static_cast<double>(value_bytes + scale_bytes); }
  std::uint32_t chunks() const {
    return static_cast<std::uint32_t>(CeilDiv(product.rows, chunk_rows));
  }
};

constexpr std::uint32_t kMaxTokens = 512;
constexpr std::uint32_t kMaxParts = 12;

vulkan::Groups GroupsOf(const Variant& variant, std::uint32_t rows) {
  constexpr std::uint32_t kMostX = 32768;
  const auto groups = static_cast<std::uint32_t>(CeilDiv(rows, variant.rows));
  if (variant.across != 0) return {variant.across, groups, variant.parts};
  const std::uint32_t x = std::min(groups, kMostX);
  return {x, static_cast<std::uint32_t>(CeilDiv(groups, x)), 1};
}

std::vector<Variant> DotVariants(const Rig& rig, std::uint32_t tokens,
                                 const vulkan::PhysicalDevice& physical) {
  std::vector<Variant> variants;
  const std::uint32_t subgroup =
      physical.required_subgroup != 0 ? physical.required_subgroup : physical.subgroup_size;
  for (const std::uint32_t threads : {32u, 64u, 128u}) {
    if (threads % subgroup != 0 || rig.product.cols % 128 != 0) continue;
    variants.push_back(
        {"dot_" + rig.format + "_rows",
         {threads, tokens, kernels::kRowsAreTokens, physical.fast_packed_dot ? 1u : 0u},
         threads});
  }
  for (const std::uint32_t lanes : {8u, 16u, 32u}) {
    if (lanes > subgroup) continue;
    for (const std::uint32_t threads : {32u, 64u, 128u}) {
      if (threads % subgroup != 0) continue;
      for (const std::uint32_t loads : {2u, 3u, 4u, 7u}) {
        if (tokens > 1 && (loads > 4 || threads != 64)) continue;
        variants.push_back({"dot_" + rig.format,
                            {threads, lanes, loads, tokens, kernels::kRowsAreTokens},
                            threads / lanes});
      }
    }
  }
  return variants;
}

// Kernels are called matrix_<format>_<tokens>_<tiles>x<subgroups>.
std::vector<Variant> MatrixVariants(const Rig& rig, std::uint32_t tokens) {
  std::vector<Variant> variants;
  for (const vulkan::ShaderCode& code : kernels::All()) {
    const std::string name(code.name);
    unsigned of_kernel = 0;
    unsigned tiles = 0;
    unsigned subgroups = 0;
    const std::string pattern = "matrix_" + rig.format + "_%u_%ux%u";
    if (std::sscanf(name.c_str(), pattern.c_str(), &of_kernel, &tiles, &subgroups) != 3) continue;
    if (of_kernel > std::max(8u, tokens) || 8 * of_kernel < tokens) continue;
    const std::uint32_t chunks = rig.product.cols / 128;
    for (const std::uint32_t parts : {1u, 2u, 3u, 4u, 6u, 8u, 12u}) {
      if (parts > 1 && (rig.product.rows > 9000 || chunks < 4 * parts)) continue;
      const auto pad = static_cast<std::uint32_t>(RoundUp(tokens, of_kernel));
      variants.push_back(
          {name, {kernels::kRowsAreTokens}, tiles * subgroups * 16, pad / of_kernel, pad, parts});
    }
  }
  return variants;
}

// Every shape of the tuning table.
std::vector<Variant> TilesVariants(const Rig& rig, std::uint32_t tokens) {
  std::vector<Variant> variants;
  for (const TilesTuning& tuning : kTilesKernels) {
    if (tuning.tokens() > tokens) continue;
    for (const std::uint32_t parts : {1u, 2u, 3u, 4u}) {
      if (parts > 1 && (rig.product.rows > 9000 || rig.product.cols / 128 < 4 * parts)) continue;
      const auto pad = static_cast<std::uint32_t>(RoundUp(tokens, tuning.tokens()));
      variants.push_back({tuning.Name(rig.format),
                          {kernels::kRowsAreTokens},
                          tuning.rows(),
                          pad / tuning.tokens(),
                          pad,
                          parts});
    }
  }
  return variants;
}

// Of rows from `first` on.
kernels::ProductParams ParamsOf(const Rig& rig, const Variant& variant, std::uint32_t first) {
  kernels::ProductParams params{};
  const Product& product = rig.product;
  params.rows = params.second_row = params.third_row =
      std::min(rig.chunk_rows, product.rows - first);
  params.groups = product.cols / 32;
  params.output_stride = product.rows;
  params.output_offset = first;
  params.pad = variant.pad;
  const auto chunks = static_cast<std::uint32_t>(CeilDiv(params.groups / 4, variant.parts));
  params.chunks_a_part = static_cast<std::uint32_t>(RoundUp(chunks, 2));
  params.part_stride = variant.pad * product.rows;
  params.output_scale = 1;
  return params;
}

absl::StatusOr<double> TimeVariant(BenchDevice& bench, const Rig& rig, const Variant& variant,
                                   std::uint32_t tokens, double guess) {
  kernels::StepHeader header{};
  header.tokens = tokens;
  std::memcpy(rig.step.data(), &header, sizeof(header));
  TANDEM_ASSIGN_OR_RETURN(const auto pipeline,
                          bench.MakePipeline(variant.kernel, variant.constants));
  std::vector<BenchDispatch> dispatches;
  const std::uint64_t scales = rig.value_bytes * rig.copies;
  for (std::uint32_t chunk = 0; chunk < rig.copies * rig.chunks(); ++chunk) {
    const std::uint32_t copy = chunk / rig.chunks();
    const std::uint32_t first = chunk % rig.chunks() * rig.chunk_rows;
    const kernels::ProductParams params = ParamsOf(rig, variant, first);
    // Of a plane that lies at `base`.
    const auto part = [&](std::uint64_t base, std::uint64_t bytes) {
      const std::uint64_t row = bytes / rig.product.rows;
      return vulkan::BufferSlice{rig.weights.handle(), base + bytes * copy + row * first,
                                 row * params.rows};
    };
    const vulkan::BufferSlice values = part(0, rig.value_bytes);
    const auto push = std::as_bytes(std::span(&params, 1));
    dispatches.push_back({pipeline.get(),
                          {rig.step.slice(), values, rig.input.slice(), rig.output.slice(),
                           rig.scale_bytes == 0 ? values : part(scales, rig.scale_bytes)},
                          {push.begin(), push.end()},
                          GroupsOf(variant, params.rows)});
  }
  const auto chunks = static_cast<int>(rig.chunks());
  const int repeats = std::clamp(static_cast<int>(4e-3 / guess), 2, 400) * chunks;
  TANDEM_ASSIGN_OR_RETURN(const double seconds, bench.Time(dispatches, repeats));
  return seconds * chunks;
}

absl::StatusOr<Rig> MakeRig(BenchDevice& bench, const Product& product, const std::string& format) {
  Rig rig;
  rig.product = product;
  rig.format = format;
  const std::uint64_t weights = std::uint64_t{product.rows} * product.cols;
  rig.value_bytes = format == "int4" ? weights / 2 : (format == "int8" ? weights : 2 * weights);
  rig.scale_bytes = format == "bf16" ? 0 : weights / 16;
  const std::uint64_t most = bench.device().physical().limits.maxStorageBufferRange;
  const std::uint64_t wanted =
      std::min<std::uint64_t>(std::uint64_t{1} << (weights > (1 << 21) ? 30 : 24), most);
  rig.copies = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(wanted / (rig.value_bytes + rig.scale_bytes), 1, 64));
  rig.chunk_rows = product.rows;
  if (rig.value_bytes > most) {
    // As the stage does.
    rig.chunk_rows = static_cast<std::uint32_t>(most / (rig.value_bytes / product.rows) /
                                                kChunkRows * kChunkRows);
  }
  TANDEM_ASSIGN_OR_RETURN(rig.weights,
                          bench.MakeBuffer((rig.value_bytes + rig.scale_bytes) * rig.copies));
  TANDEM_RETURN_IF_ERROR(bench.Fill(rig.weights));
  TANDEM_ASSIGN_OR_RETURN(rig.step,
                          Buffer::Create(bench.device(), 4096, vulkan::Placement::kUpload, "step"));
  TANDEM_ASSIGN_OR_RETURN(rig.input,
                          bench.MakeBuffer(std::uint64_t{kMaxTokens} * product.cols * 4));
  TANDEM_RETURN_IF_ERROR(bench.Fill(rig.input));
  const std::uint64_t tokens = product.rows > 100000 ? 64 : kMaxTokens;
  const std::uint64_t parts = product.rows > 9000 ? 1 : kMaxParts;
  TANDEM_ASSIGN_OR_RETURN(rig.output, bench.MakeBuffer(tokens * parts * product.rows * 4));
  return rig;
}

std::string Describe(const Variant& variant) {
  return absl::StrCat(variant.kernel, " {", absl::StrJoin(variant.constants, " "), "} parts ",
                      variant.parts);
}

void PrintRow(const Rig& rig, std::uint32_t tokens, const Variant& variant, double seconds,
              double copy, bool best) {
  const double flops = 2.0 * rig.product.rows * rig.product.cols * tokens;
  std::printf(
      "%c %-8s %-5s %6u x %-5u tokens %3u %8.1f us %7.0f GB/s %4.0f%% of copy %7.2f TFLOP/s  %s\n",
      best ? '*' : ' ', rig.product.name, rig.format.c_str(), rig.product.rows, rig.product.cols,
      tokens, seconds * 1e6, rig.bytes() / seconds / 1e9, 100 * rig.bytes() / seconds / copy,
      flops / seconds / 1e12, Describe(variant).c_str());
  std::fflush(stdout);
}

absl::Status BenchProduct(BenchDevice& bench, const Product& product, const std::string& format,
                          const Options& options, double copy) {
  TANDEM_ASSIGN_OR_RETURN(const Rig rig, MakeRig(bench, product, format));
  const vulkan::PhysicalDevice& physical = bench.device().physical();
  for (const std::uint32_t tokens : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 512u}) {
    if (tokens > 64 && product.rows > 100000) continue;
    if (options.tokens != 0 && tokens != options.tokens) continue;
    std::vector<Variant> variants;
    const bool packed = format != "bf16";
    if (tokens <= 8 && packed && physical.packed_dot) variants = DotVariants(rig, tokens, physical);
    if (tokens >= 2 && packed && physical.fragments) {
      const std::vector<Variant> more = MatrixVariants(rig, tokens);
      variants.insert(variants.end(), more.begin(), more.end());
    }
    if (tokens >= kMinTilesTokens && physical.matrix) {
      const std::vector<Variant> more = TilesVariants(rig, tokens);
      variants.insert(variants.end(), more.begin(), more.end());
    }
    double least = 0;
    std::optional<Variant> best;
    for (const Variant& variant : variants) {
      const double guess =
          1.3 * rig.bytes() / copy + 2.0 * product.rows * product.cols * tokens / 3e14;
      TANDEM_ASSIGN_OR_RETURN(const double seconds,
                              TimeVariant(bench, rig, variant, tokens, guess));
      if (options.all) PrintRow(rig, tokens, variant, seconds, copy, false);
      if (best.has_value() && seconds >= least) continue;
      best = variant;
      least = seconds;
    }
    if (best.has_value()) PrintRow(rig, tokens, *best, least, copy, true);
  }
  return absl::OkStatus();
}

// What a dispatch costs that does nothing, with a barrier behind it and without.
absl::Status BenchDispatches(BenchDevice& bench) {
  TANDEM_ASSIGN_OR_RETURN(const Buffer numbers, bench.MakeBuffer(256));
  TANDEM_ASSIGN_OR_RETURN(const auto pipeline, bench.MakePipeline("probe", {}));
  const BenchDispatch dispatch{pipeline.get(), {numbers.slice()}, std::vector<std::byte>(4), {}};
  TANDEM_ASSIGN_OR_RETURN(const double with, bench.Time({dispatch}, 400, true));
  TANDEM_ASSIGN_OR_RETURN(const double without, bench.Time({dispatch}, 400, false));
  std::printf("a small dispatch: %.2f us with a barrier, %.2f us without\n", with * 1e6,
              without * 1e6);
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  const auto model = std::find_if(Models().begin(), Models().end(), [&](const Model& candidate) {
    return options.model == candidate.name;
  });
  if (model == Models().end()) {
    return absl::InvalidArgumentError("--model: expected 1b, 4b, 12b, 27b or small, found '" +
                                      options.model + "'");
  }
  TANDEM_ASSIGN_OR_RETURN(const auto bench, BenchDevice::Create(options.device));
  const vulkan::PhysicalDevice& physical = bench->device().physical();
  std::printf("device %s, %s, packed dot products %s, matrices %s\n", physical.name.c_str(),
              physical.driver.c_str(), physical.packed_dot ? "yes" : "no",
              physical.fragments ? "yes" : "no");
  TANDEM_ASSIGN_OR_RETURN(const double copy, bench->CopyBandwidth(options.model == "small"));
  std::printf("copy bandwidth (read + written): %.1f GB/s\n", copy / 1e9);
  TANDEM_RETURN_IF_ERROR(BenchDispatches(*bench));
  for (const std::string format : {"int4", "int8", "bf16"}) {
    for (const Product& product : model->products) {
      const std::string name = format + "/" + product.name;
      if (name.find(options.only) == std::string::npos) continue;
      TANDEM_RETURN_IF_ERROR(BenchProduct(*bench, product, format, options, copy));
    }
  }
  return absl::OkStatus();
}

// False when an argument is not understood.
bool ParseArguments(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--all") {
      options->all = true;
      continue;
    }
    if (arg == "--tokens" && i + 1 < argc) {
      options->tokens = static_cast<std::uint32_t>(std::strtoul(argv[++i], nullptr, 10));
      continue;
    }
    std::string* const value = arg == "--device"  ? &options->device
                               : arg == "--model" ? &options->model
                               : arg == "--only"  ? &options->only
                                                  : nullptr;
    if (value == nullptr || i + 1 == argc) return false;
    *value = argv[++i];
  }
  return true;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::Options options;
  if (!tandem::ParseArguments(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: kernel_bench [--device NAME] [--model 1b|4b|12b|27b|small] [--only PART] "
                 "[--tokens N] [--all]\n");
    return 2;
  }
  const absl::Status status = tandem::Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "kernel_bench: %s\n", status.ToString().c_str());
  return 1;
}
