#include "tests/unit/loader/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::size_t kAlignment = 32;

template <typename T>
std::string Raw(T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string RawString(const std::string& text) { return Raw<std::uint64_t>(text.size()) + text; }

template <typename T>
std::string TypedArray(std::uint32_t type, const std::vector<T>& values) {
  std::string bytes = Raw<std::uint32_t>(9) + Raw(type) + Raw<std::uint64_t>(values.size());
  for (const T value : values) bytes += Raw(value);
  return bytes;
}

void Pad(std::string& bytes) {
  bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
}

}  // namespace

std::string GgufU32(std::uint32_t v) { return Raw<std::uint32_t>(4) + Raw(v); }
std::string GgufF32(float v) { return Raw<std::uint32_t>(6) + Raw(v); }
std::string GgufBool(bool v) { return Raw<std::uint32_t>(7) + Raw<std::uint8_t>(v ? 1 : 0); }
std::string GgufString(const std::string& v) { return Raw<std::uint32_t>(8) + RawString(v); }
std::string GgufFloats(const std::vector<float>& v) { return TypedArray(6, v); }
std::string GgufInts(const std::vector<std::int32_t>& v) { return TypedArray(5, v); }
std::string GgufBools(const std::vector<bool>& v) {
  std::string bytes = Raw<std::uint32_t>(9) + Raw<std::uint32_t>(7) + Raw<std::uint64_t>(v.size());
  for (const bool value : v) bytes += value ? '\1' : '\0';
  return bytes;
}
std::string GgufStrings(const std::vector<std::string>& v) {
  std::string bytes = Raw<std::uint32_t>(9) + Raw<std::uint32_t>(8) + Raw<std::uint64_t>(v.size());
  for (const std::string& text : v) bytes += RawString(text);
  return bytes;
}

void GgufBuilder::Set(const std::string& key, std::string value) {
  for (auto& [name, old] : metadata) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  metadata.emplace_back(key, std::move(value));
}

void GgufBuilder::Remove(const std::string& key) {
  std::erase_if(metadata, [&](const auto& entry) { return entry.first == key; });
}

GgufBuilder::Tensor& GgufBuilder::Find(const std::string& name) {
  const auto it =
      std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& t) { return t.name == name; });
  TANDEM_CHECK(it != tensors.end());
  return *it;
}

std::string GgufBuilder::Bytes() const {
  std::string bytes = magic + Raw(version);
  bytes += Raw<std::uint64_t>(claimed_tensors < 0 ? tensors.size()
                                                  : static_cast<std::uint64_t>(claimed_tensors));
  bytes += Raw<std::uint64_t>(claimed_keys < 0 ? metadata.size()
                                               : static_cast<std::uint64_t>(claimed_keys));
  for (const auto& [key, value] : metadata) bytes += RawString(key) + value;
  std::string data;
  for (const Tensor& tensor : tensors) {
    bytes += RawString(tensor.name) + Raw(static_cast<std::uint32_t>(tensor.dims.size()));
    for (const std::uint64_t dim : tensor.dims) bytes += Raw(dim);
    bytes += Raw(tensor.type) + Raw<std::uint64_t>(tensor.offset < 0
                                                       ? data.size()
                                                       : static_cast<std::uint64_t>(tensor.offset));
    data += tensor.data;
    Pad(data);
  }
  Pad(bytes);
  return bytes + data;
}

GgufBuilder GgufOf(const ModelConfig& c, const Vocabulary& vocabulary) {
  GgufBuilder b;
  b.Set("general.architecture", GgufString("gemma3"));
  b.Set("general.name", GgufString("test"));
  b.Set("gemma3.context_length", GgufU32(static_cast<std::uint32_t>(c.max_positions)));
  b.Set("gemma3.embedding_length", GgufU32(static_cast<std::uint32_t>(c.hidden_size)));
  b.Set("gemma3.block_count", GgufU32(static_cast<std::uint32_t>(c.num_layers)));
  b.Set("gemma3.feed_forward_length", GgufU32(static_cast<std::uint32_t>(c.ffn_size)));
  b.Set("gemma3.attention.head_count", GgufU32(static_cast<std::uint32_t>(c.num_heads)));
  b.Set("gemma3.attention.head_count_kv", GgufU32(static_cast<std::uint32_t>(c.num_kv_heads)));
  b.Set("gemma3.attention.key_length", GgufU32(static_cast<std::uint32_t>(c.head_dim)));
  b.Set("gemma3.attention.value_length", GgufU32(static_cast<std::uint32_t>(c.head_dim)));
  b.Set("gemma3.attention.sliding_window", GgufU32(static_cast<std::uint32_t>(c.sliding_window)));
  b.Set("gemma3.attention.layer_norm_rms_epsilon", GgufF32(c.rms_norm_eps));
  b.Set("gemma3.rope.freq_base", GgufF32(c.rope_theta_global));
  if (c.rope_factor_global != 1.0f) {
    b.Set("gemma3.rope.scaling.type", GgufString("linear"));
    b.Set("gemma3.rope.scaling.factor", GgufF32(c.rope_factor_global));
  }
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (const Piece& piece : vocabulary.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    const bool marker = piece.text == "<start_of_turn>" || piece.text == "<end_of_turn>";
    types.push_back(
        marker ? 3 : static_cast<std::int32_t>(piece.type));  // writers mark the turns as control
  }
  b.Set("tokenizer.ggml.model", GgufString("llama"));
  b.Set("tokenizer.ggml.tokens", GgufStrings(tokens));
  b.Set("tokenizer.ggml.scores", GgufFloats(scores));
  b.Set("tokenizer.ggml.token_type", GgufInts(types));
  b.Set("tokenizer.ggml.bos_token_id", GgufU32(static_cast<std::uint32_t>(vocabulary.bos_id)));
  b.Set("tokenizer.ggml.eos_token_id", GgufU32(static_cast<std::uint32_t>(vocabulary.eos_id)));
  b.Set("tokenizer.ggml.unknown_token_id", GgufU32(static_cast<std::uint32_t>(vocabulary.unk_id)));
  b.Set("tokenizer.ggml.padding_token_id", GgufU32(static_cast<std::uint32_t>(vocabulary.pad_id)));
  b.Set("tokenizer.ggml.add_space_prefix", GgufBool(false));
  b.Set("tokenizer.chat_template", GgufString("{{ bos_token }}"));
  return b;
}

}  // namespace tandem
