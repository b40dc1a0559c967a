#include "lib/model/config.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// Far above every Gemma 3, and low enough that no product of two sizes leaves 63 bits.
constexpr std::int64_t kMaxVocab = std::int64_t{1} << 22;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMaxLayers = 1024;
constexpr std::int64_t kMaxPositions = std::int64_t{1} << 26;

absl::Status Wrong(std::string_view field, const std::string& expected, const std::string& found) {
  return absl::InvalidArgumentError(
      absl::StrCat(AbslView(field), ": expected ", expected, ", found ", found));
}

absl::Status CheckRange(std::string_view field, std::int64_t value, std::int64_t low,
                        std::int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Wrong(field, absl::StrCat(low, " to ", high), absl::StrCat(value));
}

absl::Status CheckPositive(std::string_view field, float value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return Wrong(field, "a positive number", absl::StrCat(value));
}

absl::Status CheckSizes(const ModelConfig& c) {
  TANDEM_RETURN_IF_ERROR(CheckRange("vocab_size", c.vocab_size, 1, kMaxVocab));
  TANDEM_RETURN_IF_ERROR(CheckRange("hidden_size", c.hidden_size, 1, kMaxWidth));
  TANDEM_RETURN_IF_ERROR(CheckRange("ffn_size", c.ffn_size, 1, kMaxWidth));
  TANDEM_RETURN_IF_ERROR(CheckRange("num_layers", c.num_layers, 1, kMaxLayers));
  TANDEM_RETURN_IF_ERROR(CheckRange("num_heads", c.num_heads, 1, 4096));
  TANDEM_RETURN_IF_ERROR(CheckRange("num_kv_heads", c.num_kv_heads, 1, c.num_heads));
  TANDEM_RETURN_IF_ERROR(CheckRange("head_dim", c.head_dim, 2, 4096));
  TANDEM_RETURN_IF_ERROR(CheckRange("max_positions", c.max_positions, 1, kMaxPositions));
  TANDEM_RETURN_IF_ERROR(CheckRange("sliding_window", c.sliding_window, 1, kMaxPositions));
  if (c.num_heads % c.num_kv_heads != 0) {
    return Wrong("num_kv_heads", absl::StrCat("a divisor of num_heads (", c.num_heads, ")"),
                 absl::StrCat(c.num_kv_heads));
  }
  if (c.head_dim % 2 != 0) return Wrong("head_dim", "an even number", absl::StrCat(c.head_dim));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("dense_size", c.dense_size, 0, c.bidirectional ? kMaxWidth : 0));
  const std::int64_t query_width = std::int64_t{c.num_heads} * c.head_dim;
  return CheckRange("num_heads * head_dim", query_width, 1, kMaxWidth);
}

}  // namespace

absl::Status ValidateModelConfig(const ModelConfig& c) {
  TANDEM_RETURN_IF_ERROR(CheckSizes(c));
  TANDEM_RETURN_IF_ERROR(CheckPositive("rms_norm_eps", c.rms_norm_eps));
  TANDEM_RETURN_IF_ERROR(CheckPositive("query_pre_attn_scalar", c.query_pre_attn_scalar));
  TANDEM_RETURN_IF_ERROR(CheckPositive("rope_theta_global", c.rope_theta_global));
  TANDEM_RETURN_IF_ERROR(CheckPositive("rope_theta_local", c.rope_theta_local));
  TANDEM_RETURN_IF_ERROR(CheckPositive("rope_factor_global", c.rope_factor_global));
  if (c.layer_is_global.size() != static_cast<std::size_t>(c.num_layers)) {
    return Wrong("layer_is_global", absl::StrCat(c.num_layers, " entries"),
                 absl::StrCat(c.layer_is_global.size()));
  }
  TANDEM_RETURN_IF_ERROR(CheckRange("bos_id", c.bos_id, 0, c.vocab_size - 1));
  if (c.eos_ids.empty()) return Wrong("eos_ids", "at least one id", "none");
  for (const std::int32_t id : c.eos_ids) {
    TANDEM_RETURN_IF_ERROR(CheckRange("eos_ids", id, 0, c.vocab_size - 1));
  }
  return absl::OkStatus();
}

}  // namespace tandem
