#include "tests/golden/golden_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/model/tensors.h"
#include "lib/weights/make_region.h"
#include "nlohmann/json.hpp"
#include "tests/golden/encoder_golden.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

absl::StatusOr<std::string> ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path.string()));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

// A safetensors file read whole: enough for test data; the loader has the careful reader.
struct TensorBytes {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};

absl::Status ReadSafetensors(const fs::path& path, const std::string& prefix,
                             std::map<std::string, TensorBytes>* out) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::uint64_t header = 0;
  if (text.size() < sizeof(header))
    return absl::DataLossError(absl::StrCat(path.string(), ": no header"));
  std::memcpy(&header, text.data(), sizeof(header));
  if (header > text.size() - sizeof(header))
    return absl::DataLossError(absl::StrCat(path.string(), ": short"));
  const Json json = Json::parse(text.substr(sizeof(header), header), nullptr, false);
  if (!json.is_object()) return absl::DataLossError(absl::StrCat(path.string(), ": broken header"));
  const std::size_t base = sizeof(header) + header;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") continue;
    const auto begin = entry["data_offsets"][0].get<std::size_t>();
    const auto end = entry["data_offsets"][1].get<std::size_t>();
    if (begin > end || base + end > text.size()) {
      return absl::DataLossError(
          absl::StrCat(path.string(), ": tensor '", name, "' leaves the file"));
    }
    (*out)[prefix + name] = {entry["dtype"], entry["shape"].get<std::vector<std::int64_t>>(),
                             text.substr(base + begin, end - begin)};
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, TensorBytes>> ReadCheckpoint(const fs::path& folder) {
  std::map<std::string, TensorBytes> tensors;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("model", 0) == 0 && entry.path().extension() == ".safetensors") {
      TANDEM_RETURN_IF_ERROR(ReadSafetensors(entry.path(), "", &tensors));
    }
    // An encoder's dense matrices.
    const fs::path inner = entry.path() / "model.safetensors";
    if (fs::exists(inner)) TANDEM_RETURN_IF_ERROR(ReadSafetensors(inner, name + "/", &tensors));
  }
  return tensors;
}

float ValueAt(const TensorBytes& tensor, std::size_t index) {
  if (tensor.dtype == "F32") {
    float value = 0;
    std::memcpy(&value, tensor.data.data() + index * sizeof(value), sizeof(value));
    return value;
  }
  std::uint16_t value = 0;
  std::memcpy(&value, tensor.data.data() + index * sizeof(value), sizeof(value));
  return tensor.dtype == "BF16" ? Bf16ToFloat(value) : HalfToFloat(value);
}

std::vector<float> Floats(const TensorBytes& tensor, std::size_t count) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = ValueAt(tensor, i);
  return out;
}

// The full sets have logits_<n>, the trimmed ones top_ids_<n> and top_logprobs_<n>.
absl::StatusOr<GoldenRows> ReadRows(const std::map<std::string, TensorBytes>& reference,
                                    std::size_t index, std::size_t rows, std::int32_t vocab) {
  const auto find = [&](const std::string& name, std::int64_t cols) -> const TensorBytes* {
    const auto found = reference.find(absl::StrCat(name, "_", index));
    if (found == reference.end()) return nullptr;
    const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(rows), cols};
    return found->second.shape == shape ? &found->second : nullptr;
  };
  if (const TensorBytes* logits = find("logits", vocab)) {
    return RowsOfLogits(Floats(*logits, rows * static_cast<std::size_t>(vocab)), vocab);
  }
  const TensorBytes* ids = find("top_ids", kGoldenTop);
  const TensorBytes* logprobs = find("top_logprobs", kGoldenTop);
  if (ids == nullptr || logprobs == nullptr || ids->dtype != "I32") {
    return absl::DataLossError(absl::StrCat("case ", index,
                                            ": expected logits or top_ids and top_logprobs with ",
                                            rows, " rows, found none"));
  }
  GoldenRows out;
  out.top_ids.resize(rows * kGoldenTop);
  std::memcpy(out.top_ids.data(), ids->data.data(), out.top_ids.size() * sizeof(std::int32_t));
  const std::vector<float> values = Floats(*logprobs, rows * kGoldenTop);
  out.top_logprobs.assign(values.begin(), values.end());
  return out;
}

absl::StatusOr<GoldenPrompt> ReadPrompt(const Json& json,
                                        const std::map<std::string, TensorBytes>& reference,
                                        std::size_t index, std::int32_t vocab) {
  GoldenPrompt prompt;
  prompt.text = json.value("prompt", "");
  prompt.ids = json["ids"].get<std::vector<std::int32_t>>();
  prompt.greedy = json["greedy"].get<std::vector<std::int32_t>>();
  prompt.greedy_margin = json["greedy_margin"].get<std::vector<double>>();
  TANDEM_ASSIGN_OR_RETURN(prompt.expected, ReadRows(reference, index, prompt.ids.size(), vocab));
  return prompt;
}

}  // namespace

std::vector<double> LogSoftmax(std::span<const float> logits) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(v - best);
  const double log_sum = best + std::log(sum);
  std::vector<double> out(logits.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = logits[i] - log_sum;
  return out;
}

GoldenRows RowsOfLogits(std::vector<float> logits, std::int32_t vocab) {
  GoldenRows rows;
  const auto width = static_cast<std::size_t>(vocab);
  std::vector<std::int32_t> order(width);
  for (std::size_t at = 0; at < logits.size(); at += width) {
    const std::vector<double> p = LogSoftmax(std::span(logits).subspan(at, width));
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + kGoldenTop, order.end(),
                      [&](std::int32_t a, std::int32_t b) {
                        return p[static_cast<std::size_t>(a)] > p[static_cast<std::size_t>(b)];
                      });
    for (std::size_t i = 0; i < kGoldenTop; ++i) {
      rows.top_ids.push_back(order[i]);
      rows.top_logprobs.push_back(p[static_cast<std::size_t>(order[i])]);
    }
  }
  rows.logits = std::move(logits);
  return rows;
}

std::vector<fs::path> FindGoldenSets() {
  std::vector<fs::path> found;
  for (const fs::path root : {"tests/golden/data", "../shared/golden"}) {
    std::vector<fs::path> here;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(root, error)) {
      if (fs::exists(entry.path() / "cases.json")) here.push_back(entry.path());
    }
    std::sort(here.begin(), here.end());
    found.insert(found.end(), here.begin(), here.end());
  }
  return found;
}

std::string GoldenSetName(const fs::path& folder) {
  const bool trimmed = folder.parent_path().filename() == "data";
  return absl::StrCat(trimmed ? "data_" : "full_", folder.filename().string());
}

absl::StatusOr<GoldenSet> LoadGoldenSet(const fs::path& folder) {
  GoldenSet set;
  set.folder = folder;
  set.name = GoldenSetName(folder);
  TANDEM_ASSIGN_OR_RETURN(const std::string config, ReadFile(folder / "config.json"));
  TANDEM_ASSIGN_OR_RETURN(set.config, ParseConfigJson(config, (folder / "config.json").string()));
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadFile(folder / "cases.json"));
  const Json cases = Json::parse(text, nullptr, false);
  if (!cases.is_object())
    return absl::DataLossError(absl::StrCat(folder.string(), "/cases.json: broken JSON"));
  std::map<std::string, TensorBytes> reference;
  TANDEM_RETURN_IF_ERROR(ReadSafetensors(folder / "reference.safetensors", "", &reference));
  std::size_t index = 0;
  for (const Json& json : cases["cases"]) {
    auto prompt = ReadPrompt(json, reference, index++, set.config.vocab_size);
    if (!prompt.ok()) return Annotate(prompt.status(), folder.string());
    set.prompts.push_back(*std::move(prompt));
  }
  return set;
}

absl::StatusOr<GoldenEncoder> LoadGoldenEncoder() {
  GoldenEncoder encoder;
  const fs::path folder = "tests/golden/data/encoder";
  encoder.set.folder = folder;
  encoder.set.name = GoldenSetName(folder);
  ModelConfig& config = encoder.set.config;
  TANDEM_ASSIGN_OR_RETURN(const std::string json, ReadFile(folder / "config.json"));
  TANDEM_ASSIGN_OR_RETURN(config, ParseConfigJson(json, (folder / "config.json").string()));
  TANDEM_ASSIGN_OR_RETURN(const std::string dense, ReadFile(folder / "2_Dense" / "config.json"));
  config.dense_size = Json::parse(dense)["out_features"];
  TANDEM_ASSIGN_OR_RETURN(const std::string texts, ReadFile(folder / "texts.json"));
  std::map<std::string, TensorBytes> reference;
  TANDEM_RETURN_IF_ERROR(ReadSafetensors(folder / "reference.safetensors", "", &reference));
  const Json listed = Json::parse(texts);
  for (const Json& text : listed["texts"]) {
    const TensorBytes& embedding = reference[absl::StrCat("embedding_", encoder.texts.size())];
    if (embedding.data.size() != static_cast<std::size_t>(config.hidden_size) * sizeof(float))
      return absl::DataLossError(absl::StrCat(folder.string(), ": an embedding is missing"));
    encoder.texts.push_back({text["ids"].get<std::vector<std::int32_t>>(),
                             Floats(embedding, static_cast<std::size_t>(config.hidden_size))});
  }
  return encoder;
}

absl::StatusOr<std::vector<std::shared_ptr<const Region>>> GoldenRegions(const GoldenSet& set,
                                                                         WeightFormat format) {
  TANDEM_ASSIGN_OR_RETURN(const auto checkpoint, ReadCheckpoint(set.folder));
  std::string missing;
  const FloatRowSource source = [&](TensorId id, std::int64_t row, std::span<float> out) {
    auto found = checkpoint.find(HuggingFaceName(id));
    if (found == checkpoint.end()) found = checkpoint.find("language_model." + HuggingFaceName(id));
    // An encoder's names begin behind "model.".
    if (found == checkpoint.end())
      found = checkpoint.find(HuggingFaceName(id).substr(std::string_view("model.").size()));
    if (found == checkpoint.end()) {
      missing = HuggingFaceName(id);
      std::fill(out.begin(), out.end(), 0.0f);
      return;
    }
    const auto begin = static_cast<std::size_t>(row) * out.size();
    // Regions hold norms as 1 + w.
    const float offset = IsMatrix(id.kind) ? 0.0f : 1.0f;
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = offset + ValueAt(found->second, begin + i);
  };
  std::vector<std::shared_ptr<const Region>> regions;
  const auto add = [&](WeightPart part, std::int32_t layer) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(auto region, MakeRegion(set.config, part, layer, format, source));
    regions.push_back(std::move(region));
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(add(WeightPart::kEmbedding, -1));
  for (std::int32_t layer = 0; layer < set.config.num_layers; ++layer) {
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kAttention, layer));
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kFfn, layer));
  }
  if (!missing.empty()) {
    return absl::DataLossError(absl::StrCat(set.folder.string(), ": no tensor '", missing, "'"));
  }
  return regions;
}

}  // namespace tandem
