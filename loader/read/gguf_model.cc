#include "loader/read/gguf_model.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/gguf_vocabulary.h"

namespace tandem {
namespace {

constexpr std::string_view kDecoder = "gemma3";
constexpr std::string_view kEncoder = "gemma-embedding";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::uint64_t kBlocksOf27B = 62;

std::string ArchitectureOf(const GgufHeader& header) {
  const absl::StatusOr<std::optional<std::string_view>> name =
      header.String("general.architecture");
  return std::string(name.ok() ? name->value_or("") : "");
}

// "gemma3.block_count"
std::string KeyOf(const GgufHeader& header, std::string_view name) {
  return Cat(ArchitectureOf(header), ".", name);
}

absl::Status Missing(std::string_view key) {
  return absl::InvalidArgumentError(Cat("key ", QuotedName(key), ": expected a value, found none"));
}

absl::Status ReadInt(const GgufHeader& header, std::string_view name, bool required,
                     std::int32_t& out) {
  const std::string key = KeyOf(header, name);
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> value, header.Uint(key));
  if (!value.has_value()) return required ? Missing(key) : absl::OkStatus();
  if (*value > static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max())) {
    return absl::InvalidArgumentError(
        Cat("key ", QuotedName(key), ": expected at most 2147483647, found ", *value));
  }
  out = static_cast<std::int32_t>(*value);
  return absl::OkStatus();
}

absl::Status ReadFloat(const GgufHeader& header, std::string_view name, bool required, float& out) {
  const std::string key = KeyOf(header, name);
  TANDEM_ASSIGN_OR_RETURN(const std::optional<float> value, header.Float(key));
  if (!value.has_value()) return required ? Missing(key) : absl::OkStatus();
  out = *value;
  return absl::OkStatus();
}

absl::Status CheckArchitecture(const GgufHeader& header) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> architecture,
                          header.String("general.architecture"));
  if (architecture == kDecoder || architecture == kEncoder) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("architecture: expected 'gemma3' or 'gemma-embedding', found ",
          architecture.has_value() ? QuotedName(*architecture) : std::string("none")));
}

absl::Status ReadRopeScaling(const GgufHeader& header, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> type,
                          header.String(KeyOf(header, "rope.scaling.type")));
  if (type == "none") return absl::OkStatus();
  if (type.has_value() && *type != "linear") {
    return absl::InvalidArgumentError(Cat("key '", KeyOf(header, "rope.scaling.type"),
                                          "': expected 'linear' or 'none', found ",
                                          QuotedName(*type)));
  }
  return ReadFloat(header, "rope.scaling.factor", type.has_value(), config.rope_factor_global);
}

// Keys that would change the function: a file that carries them otherwise than Gemma 3 is refused.
absl::Status RefuseUnsupported(const GgufHeader& header, const ModelConfig& config) {
  std::int32_t value_length = config.head_dim;
  TANDEM_RETURN_IF_ERROR(ReadInt(header, "attention.value_length", false, value_length));
  if (value_length != config.head_dim) {
    return absl::InvalidArgumentError(Cat("key '", KeyOf(header, "attention.value_length"),
                                          "': expected the key length ", config.head_dim,
                                          ", found ", value_length));
  }
  for (const std::string_view name : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    float cap = 0;
    TANDEM_RETURN_IF_ERROR(ReadFloat(header, name, false, cap));
    if (cap != 0)
      return absl::InvalidArgumentError(
          Cat("key '", KeyOf(header, name), "': expected 0 or none, found ", cap));
  }
  const std::string causal_key = KeyOf(header, "attention.causal");
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> causal, header.Bool(causal_key));
  if (causal.value_or(!config.bidirectional) == config.bidirectional) {
    return absl::InvalidArgumentError(Cat("key '", causal_key, "': expected ",
                                          config.bidirectional ? "false" : "true",
                                          ", found the other"));
  }
  return absl::OkStatus();
}

// `attention.sliding_window_pattern`: a number n (every n-th layer is global) or a bool for each
// layer (true: sliding).
absl::Status ReadLayerTypes(const GgufHeader& header, ModelConfig& config) {
  const std::string key = KeyOf(header, "attention.sliding_window_pattern");
  if (config.num_layers < 1 || config.num_layers > 1024) {
    return absl::InvalidArgumentError(Cat("key '", KeyOf(header, "block_count"),
                                          "': expected 1 to 1024, found ", config.num_layers));
  }
  config.layer_is_global.assign(static_cast<std::size_t>(config.num_layers), false);
  const auto it = header.metadata.find(key);
  if (it != header.metadata.end() && it->second.type == GgufType::kArray) {
    TANDEM_ASSIGN_OR_RETURN(const GgufValue* sliding, header.Array(key, GgufType::kBool));
    if (sliding->count != config.layer_is_global.size()) {
      return absl::InvalidArgumentError(Cat("key ", QuotedName(key), ": expected ",
                                            config.num_layers, " entries, found ", sliding->count));
    }
    for (std::size_t i = 0; i < sliding->count; ++i)
      config.layer_is_global[i] = sliding->raw[i] == 0;
    return absl::OkStatus();
  }
  std::int32_t pattern = 6;
  TANDEM_RETURN_IF_ERROR(ReadInt(header, "attention.sliding_window_pattern", false, pattern));
  if (pattern < 1)
    return absl::InvalidArgumentError(
        Cat("key ", QuotedName(key), ": expected 1 or more, found ", pattern));
  for (std::size_t i = 0; i < config.layer_is_global.size(); ++i) {
    config.layer_is_global[i] = (i + 1) % static_cast<std::size_t>(pattern) == 0;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::uint32_t>> TokenId(const GgufHeader& header,
                                                     std::string_view name) {
  const std::string key = Cat("tokenizer.ggml.", name);
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> id, header.Uint(key));
  if (!id.has_value()) return std::optional<std::uint32_t>();
  if (*id > kMaxPieces)
    return absl::InvalidArgumentError(
        Cat("key ", QuotedName(key), ": expected at most ", kMaxPieces, ", found ", *id));
  return std::optional<std::uint32_t>(static_cast<std::uint32_t>(*id));
}

absl::Status ReadTokenIds(const GgufHeader& header, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::uint32_t> bos, TokenId(header, "bos_token_id"));
  if (bos.has_value()) config.bos_id = static_cast<std::int32_t>(*bos);
  std::vector<std::int32_t> ends;
  for (const std::string_view name : {"eos_token_id", "eot_token_id"}) {
    TANDEM_ASSIGN_OR_RETURN(const std::optional<std::uint32_t> id, TokenId(header, name));
    if (id.has_value() &&
        std::find(ends.begin(), ends.end(), static_cast<std::int32_t>(*id)) == ends.end()) {
      ends.push_back(static_cast<std::int32_t>(*id));
    }
  }
  if (!ends.empty()) config.eos_ids = ends;
  return absl::OkStatus();
}

// Half of the window is seen each way. The dense matrices are there or not, as the file was made.
absl::Status ReadEncoder(const GgufHeader& header, ModelConfig& config) {
  constexpr std::uint64_t kMean = 1;
  config.bidirectional = ArchitectureOf(header) == kEncoder;
  if (!config.bidirectional) return absl::OkStatus();
  config.sliding_window = config.sliding_window / 2 + 1;
  const std::string pooling_key = KeyOf(header, "pooling_type");
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> pooling, header.Uint(pooling_key));
  if (!pooling.has_value()) return Missing(pooling_key);
  if (*pooling != kMean) {
    return absl::InvalidArgumentError(
        Cat("key ", QuotedName(pooling_key), ": expected 1 (the mean), found ", *pooling));
  }
  if (!header.metadata.contains(KeyOf(header, "dense_2_feat_out"))) return absl::OkStatus();
  std::int32_t first_in = 0, last_in = 0, last_out = 0;
  TANDEM_RETURN_IF_ERROR(ReadInt(header, "dense_2_feat_in", true, first_in));
  TANDEM_RETURN_IF_ERROR(ReadInt(header, "dense_2_feat_out", true, config.dense_size));
  TANDEM_RETURN_IF_ERROR(ReadInt(header, "dense_3_feat_in", true, last_in));
  TANDEM_RETURN_IF_ERROR(ReadInt(header, "dense_3_feat_out", true, last_out));
  if (config.dense_size > 0 && first_in == config.hidden_size && last_in == config.dense_size &&
      last_out == config.hidden_size) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(Cat("dense_2 and dense_3: expected ", config.hidden_size,
                                        " values to some more and back to ", config.hidden_size,
                                        ", found ", first_in, " to ", config.dense_size, " and ",
                                        last_in, " to ", last_out));
}

template <typename T>
std::vector<T> Values(const GgufValue& array) {
  std::vector<T> values(array.count);
  std::memcpy(values.data(), array.raw.data(), array.raw.size());
  return values;
}

}  // namespace

absl::StatusOr<ModelConfig> ModelConfigFromGguf(const GgufHeader& header) {
  TANDEM_RETURN_IF_ERROR(CheckArchitecture(header));
  ModelConfig config;
  const struct {
    const char* name;
    std::int32_t* value;
  } ints[] = {{"context_length", &config.max_positions},
              {"embedding_length", &config.hidden_size},
              {"block_count", &config.num_layers},
              {"feed_forward_length", &config.ffn_size},
              {"attention.head_count", &config.num_heads},
              {"attention.head_count_kv", &config.num_kv_heads},
              {"attention.key_length", &config.head_dim},
              {"attention.sliding_window", &config.sliding_window}};
  for (const auto& field : ints)
    TANDEM_RETURN_IF_ERROR(ReadInt(header, field.name, /*required=*/true, *field.value));
  TANDEM_RETURN_IF_ERROR(
      ReadFloat(header, "attention.layer_norm_rms_epsilon", true, config.rms_norm_eps));
  TANDEM_RETURN_IF_ERROR(ReadFloat(header, "rope.freq_base", false, config.rope_theta_global));
  TANDEM_RETURN_IF_ERROR(ReadFloat(header, "rope.freq_base_swa", false, config.rope_theta_local));
  TANDEM_RETURN_IF_ERROR(ReadRopeScaling(header, config));
  TANDEM_RETURN_IF_ERROR(ReadLayerTypes(header, config));
  TANDEM_RETURN_IF_ERROR(ReadEncoder(header, config));
  TANDEM_RETURN_IF_ERROR(RefuseUnsupported(header, config));
  TANDEM_RETURN_IF_ERROR(ReadTokenIds(header, config));
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* tokens, header.Array(kTokens, GgufType::kString));
  if (tokens == nullptr) return Missing(kTokens);
  if (tokens->count > kMaxPieces) {
    return absl::InvalidArgumentError(Cat("key ", QuotedName(kTokens), ": expected at most ",
                                          kMaxPieces, " tokens, found ", tokens->count));
  }
  config.vocab_size = static_cast<std::int32_t>(tokens->count);
  const bool is_27b =
      static_cast<std::uint64_t>(config.num_layers) == kBlocksOf27B && config.num_heads > 0;
  config.query_pre_attn_scalar =
      is_27b ? static_cast<float>(config.hidden_size) / static_cast<float>(config.num_heads)
             : static_cast<float>(config.head_dim);
  TANDEM_RETURN_IF_ERROR(ValidateModelConfig(config));
  return config;
}

absl::StatusOr<Vocabulary> VocabularyFromGguf(const GgufHeader& header) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> model,
                          header.String("tokenizer.ggml.model"));
  if (model != "llama") {
    return absl::InvalidArgumentError(
        Cat("key 'tokenizer.ggml.model': expected 'llama' (SentencePiece), found ",
            model.has_value() ? QuotedName(*model) : std::string("none")));
  }
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* tokens, header.Array(kTokens, GgufType::kString));
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* scores,
                          header.Array("tokenizer.ggml.scores", GgufType::kFloat32));
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* types,
                          header.Array("tokenizer.ggml.token_type", GgufType::kInt32));
  if (tokens == nullptr) return Missing(kTokens);
  if (scores == nullptr) return Missing("tokenizer.ggml.scores");
  if (types == nullptr) return Missing("tokenizer.ggml.token_type");
  const std::vector<float> score_values = Values<float>(*scores);
  const std::vector<std::int32_t> type_values = Values<std::int32_t>(*types);
  GgufVocabularyArrays arrays;
  arrays.tokens = tokens->strings;
  arrays.scores = score_values;
  arrays.types = type_values;
  TANDEM_ASSIGN_OR_RETURN(arrays.bos_id, TokenId(header, "bos_token_id"));
  TANDEM_ASSIGN_OR_RETURN(arrays.eos_id, TokenId(header, "eos_token_id"));
  TANDEM_ASSIGN_OR_RETURN(arrays.unk_id, TokenId(header, "unknown_token_id"));
  TANDEM_ASSIGN_OR_RETURN(arrays.pad_id, TokenId(header, "padding_token_id"));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> add_bos,
                          header.Bool("tokenizer.ggml.add_bos_token"));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> add_space,
                          header.Bool("tokenizer.ggml.add_space_prefix"));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> add_eos,
                          header.Bool("tokenizer.ggml.add_eos_token"));
  arrays.add_bos = add_bos.value_or(true);
  arrays.add_eos = add_eos.value_or(false);
  arrays.add_space_prefix = add_space.value_or(true);
  return VocabularyFromGgufArrays(arrays);
}

}  // namespace tandem
