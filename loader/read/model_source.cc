#include "loader/read/model_source.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/checksum.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/sentencepiece_model.h"
#include "lib/text/tokenizer_json.h"
#include "loader/read/gguf.h"
#include "loader/read/gguf_model.h"
#include "loader/read/safetensors.h"
#include "loader/read/sentence_modules.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxSideFileBytes = 256 << 20;
constexpr std::string_view kEndOfTurn = "<end_of_turn>";

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string ShapeText(const std::vector<std::int64_t>& dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) absl::StrAppend(&text, i == 0 ? "" : ", ", dims[i]);
  return text + ")";
}

absl::Status TensorError(const std::string& path, std::string_view name, std::string_view what,
                         std::string_view expected, const std::string& found) {
  return absl::InvalidArgumentError(Cat(path, ": tensor ", QuotedName(name), ": ", what,
                                        ": expected ", expected, ", found ", found));
}

// `dims` with the contiguous dimension last, against the shape that the configuration gives.
absl::Status CheckShape(const std::string& path, std::string_view name, const ModelConfig& config,
                        TensorId id, const std::vector<std::int64_t>& dims) {
  const TensorShape shape = ShapeOf(config, id.kind);
  const std::vector<std::int64_t> expected = IsMatrix(id.kind)
                                                 ? std::vector<std::int64_t>{shape.rows, shape.cols}
                                                 : std::vector<std::int64_t>{shape.cols};
  if (dims == expected) return absl::OkStatus();
  return TensorError(path, name, "shape", Cat(ShapeText(expected), " (from the configuration)"),
                     ShapeText(dims));
}

std::optional<SourceType> TypeOfDtype(std::string_view dtype) {
  if (dtype == "F32") return SourceType::kF32;
  if (dtype == "F16") return SourceType::kF16;
  if (dtype == "BF16") return SourceType::kBf16;
  return std::nullopt;
}

// File name -> tensor, for one naming scheme.
std::map<std::string, TensorId> NamesOf(const ModelConfig& config, std::string (*spell)(TensorId)) {
  std::map<std::string, TensorId> names;
  for (const TensorId id : AllTensors(config)) names.emplace(spell(id), id);
  return names;
}

// The text of a file in the folder, or nothing when it is not there.
absl::StatusOr<std::optional<std::string>> ReadIfThere(const std::string& path) {
  if (!FileExists(path)) return std::optional<std::string>();
  TANDEM_ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(path));
  TANDEM_ASSIGN_OR_RETURN(std::string text, file.ReadAll(kMaxSideFileBytes));
  return std::optional<std::string>(std::move(text));
}

absl::StatusOr<std::string> ReadNeeded(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(std::optional<std::string> text, ReadIfThere(path));
  if (text.has_value()) return *std::move(text);
  return absl::NotFoundError(
      Cat(path, ": expected what sentence-transformers keeps beside an encoder, found no file"));
}

// Whether the tokenizer puts eos behind a text.
absl::StatusOr<bool> AddsEos(const std::string& folder) {
  const std::string path = folder + "/tokenizer_config.json";
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadNeeded(path));
  const absl::StatusOr<Json> root = ParseJson(text);
  if (!root.ok()) return Annotate(root.status(), path);
  const auto it = root->is_object() ? root->find("add_eos_token") : root->end();
  if (it != root->end() && it->is_boolean()) return it->get<bool>();
  return absl::InvalidArgumentError(
      Cat(path, ": 'add_eos_token': expected true or false, found neither"));
}

// The template is shown to people only, so files without one or with another spelling of it are no
// error.
absl::StatusOr<std::string> FindChatTemplate(const std::string& folder) {
  TANDEM_ASSIGN_OR_RETURN(std::optional<std::string> jinja,
                          ReadIfThere(folder + "/chat_template.jinja"));
  if (jinja.has_value()) return *std::move(jinja);
  for (const char* name : {"/chat_template.json", "/tokenizer_config.json"}) {
    TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string> text, ReadIfThere(folder + name));
    if (!text.has_value()) continue;
    const absl::StatusOr<Json> root = ParseJson(*text);
    if (!root.ok() || !root->is_object()) continue;
    const auto it = root->find("chat_template");
    if (it != root->end() && it->is_string()) return it->get<std::string>();
  }
  return std::string();
}

absl::StatusOr<Vocabulary> ReadVocabulary(const std::string& folder) {
  const std::string model = folder + "/tokenizer.model";
  const std::string json = folder + "/tokenizer.json";
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string> model_bytes, ReadIfThere(model));
  if (model_bytes.has_value()) {
    absl::StatusOr<Vocabulary> vocabulary = ReadSentencePieceModel(*model_bytes);
    if (!vocabulary.ok()) return Annotate(vocabulary.status(), model);
    return vocabulary;
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string> json_text, ReadIfThere(json));
  if (!json_text.has_value()) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": expected tokenizer.model or tokenizer.json, found neither"));
  }
  absl::StatusOr<Vocabulary> vocabulary = ReadTokenizerJson(*json_text);
  if (!vocabulary.ok()) return Annotate(vocabulary.status(), json);
  return vocabulary;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const ModelSource>> ModelSource::Open(const std::string& path) {
  std::unique_ptr<ModelSource> source(new ModelSource());
  TANDEM_ASSIGN_OR_RETURN(source->files_, FindModelFiles(path));
  for (const std::string& weights : source->files_.weights) {
    TANDEM_ASSIGN_OR_RETURN(InputFile file, InputFile::Open(weights));
    source->inputs_.push_back(std::move(file));
  }
  if (source->files_.format == ModelFiles::Format::kGguf) {
    TANDEM_RETURN_IF_ERROR(source->OpenGguf());
  } else {
    TANDEM_RETURN_IF_ERROR(source->OpenSafetensors());
  }
  TANDEM_RETURN_IF_ERROR(source->CheckVocabulary());
  source->config_.name = source->files_.name;
  std::string identity;
  for (const InputFile& file : source->inputs_) {
    absl::StrAppend(&identity, BaseName(file.path()), "|", file.size(), "|", file.modified_ns(),
                    "|");
  }
  for (const SourceTensor& tensor : source->tensors_) {
    absl::StrAppend(&identity, tensor.name, AbslView(SourceTypeName(tensor.type)), tensor.offset,
                    "|");
  }
  source->fingerprint_ = Checksum(std::as_bytes(std::span(identity)));
  return std::unique_ptr<const ModelSource>(std::move(source));
}

absl::Status ModelSource::ReadSideFiles() {
  const std::string config_path = files_.folder + "/config.json";
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string> config, ReadIfThere(config_path));
  if (!config.has_value())
    return absl::NotFoundError(
        absl::StrCat(config_path, ": expected a configuration beside the weights, found no file"));
  TANDEM_ASSIGN_OR_RETURN(config_, ParseConfigJson(*config, config_path));
  TANDEM_ASSIGN_OR_RETURN(vocabulary_, ReadVocabulary(files_.folder));
  TANDEM_ASSIGN_OR_RETURN(chat_template_, FindChatTemplate(files_.folder));
  if (!config_.bidirectional) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(vocabulary_.add_eos, AddsEos(files_.folder));
  return ReadSentenceModules();
}

// What follows the encoder: without it an embedding would be another one.
absl::Status ModelSource::ReadSentenceModules() {
  const std::string modules_path = files_.folder + "/modules.json";
  TANDEM_ASSIGN_OR_RETURN(const std::string modules_json, ReadNeeded(modules_path));
  const absl::StatusOr<SentenceModules> modules = ParseSentenceModules(modules_json);
  if (!modules.ok()) return Annotate(modules.status(), modules_path);
  const std::string pooling_path = Cat(files_.folder, "/", modules->pooling, "/config.json");
  TANDEM_ASSIGN_OR_RETURN(const std::string pooling, ReadNeeded(pooling_path));
  TANDEM_RETURN_IF_ERROR(Annotate(CheckPoolingConfig(pooling, config_.hidden_size), pooling_path));
  if (modules->dense.empty()) return absl::OkStatus();
  std::int32_t last = 0;
  TANDEM_RETURN_IF_ERROR(ReadDense(modules->dense[0], config_.hidden_size, &config_.dense_size));
  TANDEM_RETURN_IF_ERROR(ReadDense(modules->dense[1], config_.dense_size, &last));
  if (last != config_.hidden_size) {
    return absl::InvalidArgumentError(Cat(modules_path, ": the last Dense: expected out_features ",
                                          config_.hidden_size, " (the hidden size), found ", last));
  }
  return Annotate(ValidateModelConfig(config_), modules_path);
}

absl::Status ModelSource::ReadDense(const std::string& folder, std::int32_t in, std::int32_t* out) {
  const std::string path = Cat(files_.folder, "/", folder, "/config.json");
  TANDEM_ASSIGN_OR_RETURN(const std::string json, ReadNeeded(path));
  const absl::StatusOr<DenseConfig> dense = ParseDenseConfig(json);
  if (!dense.ok()) return Annotate(dense.status(), path);
  if (dense->in != in) {
    return absl::InvalidArgumentError(
        Cat(path, ": 'in_features': expected ", in, ", found ", dense->in));
  }
  *out = dense->out;
  TANDEM_ASSIGN_OR_RETURN(InputFile weights,
                          InputFile::Open(Cat(files_.folder, "/", folder, "/model.safetensors")));
  inputs_.push_back(std::move(weights));
  return absl::OkStatus();
}

absl::StatusOr<SourceTensor> ModelSource::FindDense(std::size_t file, TensorKind kind) const {
  constexpr std::string_view kName = "linear.weight";
  const InputFile& input = inputs_[file];
  TANDEM_ASSIGN_OR_RETURN(const std::vector<SafetensorsEntry> entries,
                          ReadSafetensorsHeader(input));
  if (entries.size() != 1 || entries[0].name != kName) {
    return TensorError(input.path(), entries.empty() ? "" : entries[0].name, "name",
                       "'linear.weight' alone", Cat(entries.size(), " tensors"));
  }
  TANDEM_RETURN_IF_ERROR(CheckShape(input.path(), kName, config_, {kind, -1}, entries[0].shape));
  const std::optional<SourceType> type = TypeOfDtype(entries[0].dtype);
  if (!type.has_value())
    return TensorError(input.path(), kName, "type", "F32, F16 or BF16",
                       QuotedName(entries[0].dtype));
  return SourceTensor{{kind, -1}, ShapeOf(config_, kind), *type, std::string(kName),
                      file,       entries[0].offset};
}

absl::Status ModelSource::OpenSafetensors() {
  TANDEM_RETURN_IF_ERROR(ReadSideFiles());
  vector_offset_ = 1.0f;
  const std::map<std::string, TensorId> ids = NamesOf(config_, HuggingFaceName);
  std::vector<SourceTensor> found;
  std::vector<std::vector<std::string>> names_by_file;
  for (std::size_t f = 0; f < files_.weights.size(); ++f) {
    const std::string& path = inputs_[f].path();
    TANDEM_ASSIGN_OR_RETURN(const std::vector<SafetensorsEntry> entries,
                            ReadSafetensorsHeader(inputs_[f]));
    names_by_file.emplace_back();
    for (const SafetensorsEntry& entry : entries) {
      names_by_file.back().push_back(entry.name);
      const std::string canonical = CanonicalTensorName(entry.name);
      if (IsUnusedTensor(canonical)) continue;
      const auto it = ids.find(canonical);
      if (it == ids.end() || canonical.find('/') != std::string::npos) {
        return TensorError(path, entry.name, "name",
                           Cat("a tensor of Gemma 3 with ", config_.num_layers, " layers"),
                           "another");
      }
      TANDEM_RETURN_IF_ERROR(CheckShape(path, entry.name, config_, it->second, entry.shape));
      const std::optional<SourceType> type = TypeOfDtype(entry.dtype);
      if (!type.has_value())
        return TensorError(path, entry.name, "type", "F32, F16 or BF16", QuotedName(entry.dtype));
      found.push_back(
          {it->second, ShapeOf(config_, it->second.kind), *type, entry.name, f, entry.offset});
    }
  }
  TANDEM_RETURN_IF_ERROR(CheckShards(names_by_file));
  for (std::size_t f = files_.weights.size(); f < inputs_.size(); ++f) {
    const bool first = f == files_.weights.size();
    TANDEM_ASSIGN_OR_RETURN(SourceTensor dense,
                            FindDense(f, first ? TensorKind::kDenseUp : TensorKind::kDenseDown));
    found.push_back(std::move(dense));
  }
  return TakeTensors(std::move(found));
}

// The index must say of every tensor the shard that has it.
absl::Status ModelSource::CheckShards(
    const std::vector<std::vector<std::string>>& names_by_file) const {
  if (files_.index.empty()) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const InputFile index, InputFile::Open(files_.index));
  TANDEM_ASSIGN_OR_RETURN(const std::string text, index.ReadAll(kMaxSideFileBytes));
  const absl::StatusOr<Json> parsed = ParseJson(text);
  if (!parsed.ok()) return Annotate(parsed.status(), files_.index);
  const Json& root = *parsed;
  const auto map = root.is_object() ? root.find("weight_map") : root.end();
  if (!root.is_object() || map == root.end() || !map->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(files_.index, ": expected a JSON object with a 'weight_map', found none"));
  }
  std::map<std::string, std::string> shard_of;
  for (std::size_t f = 0; f < names_by_file.size(); ++f) {
    const std::string shard = BaseName(inputs_[f].path());
    for (const std::string& name : names_by_file[f]) {
      const auto [it, fresh] = shard_of.emplace(name, shard);
      if (!fresh)
        return TensorError(inputs_[f].path(), name, "place", "one shard",
                           Cat("it in ", it->second, " too"));
    }
  }
  for (const auto& [name, shard] : map->items()) {
    const auto it = shard_of.find(name);
    if (it == shard_of.end() || !shard.is_string() || shard.get<std::string>() != it->second) {
      return TensorError(
          files_.index, name, "place",
          Cat("it in ", QuotedName(shard.is_string() ? shard.get<std::string>() : "")),
          it == shard_of.end() ? "it in no shard" : Cat("it in ", QuotedName(it->second)));
    }
  }
  return absl::OkStatus();
}

absl::Status ModelSource::OpenGguf() {
  const std::string& path = inputs_[0].path();
  TANDEM_ASSIGN_OR_RETURN(const GgufHeader header, ReadGgufHeader(inputs_[0]));
  absl::StatusOr<ModelConfig> config = ModelConfigFromGguf(header);
  if (!config.ok()) return Annotate(config.status(), path);
  config_ = *std::move(config);
  absl::StatusOr<Vocabulary> vocabulary = VocabularyFromGguf(header);
  if (!vocabulary.ok()) return Annotate(vocabulary.status(), path);
  vocabulary_ = *std::move(vocabulary);
  const absl::StatusOr<std::optional<std::string_view>> chat =
      header.String("tokenizer.chat_template");
  if (!chat.ok()) return Annotate(chat.status(), path);
  chat_template_ = std::string(chat->value_or(""));

  const std::map<std::string, TensorId> ids = NamesOf(config_, GgufName);
  std::vector<SourceTensor> found;
  for (const GgufTensor& tensor : header.tensors) {
    const auto it = ids.find(std::string(tensor.name));
    if (it == ids.end()) {
      return TensorError(path, tensor.name, "name",
                         Cat("a tensor of ", config_.bidirectional ? "gemma-embedding" : "gemma3",
                             " with ", config_.num_layers, " blocks"),
                         "another");
    }
    const std::vector<std::int64_t> dims(tensor.dims.rbegin(), tensor.dims.rend());
    TANDEM_RETURN_IF_ERROR(CheckShape(path, tensor.name, config_, it->second, dims));
    const std::optional<SourceType> type = SourceTypeOfGgml(tensor.type);
    if (!type.has_value()) {
      return TensorError(path, tensor.name, "type",
                         "F32, F16, BF16, Q8_0, Q5_0, Q4_0, Q4_K, Q5_K or Q6_K",
                         Cat("number ", tensor.type));
    }
    found.push_back({it->second, ShapeOf(config_, it->second.kind), *type, std::string(tensor.name),
                     0, tensor.offset});
  }
  return TakeTensors(std::move(found));
}

absl::Status ModelSource::TakeTensors(std::vector<SourceTensor> found) {
  const bool gguf = files_.format == ModelFiles::Format::kGguf;
  for (const TensorId id : AllTensors(config_)) {
    const auto it =
        std::find_if(found.begin(), found.end(), [&](const SourceTensor& t) { return t.id == id; });
    const std::string name = gguf ? GgufName(id) : HuggingFaceName(id);
    const std::string& where = files_.index.empty() ? main_file() : files_.index;
    if (it == found.end()) return TensorError(where, name, "presence", "one", "none");
    const auto second =
        std::find_if(it + 1, found.end(), [&](const SourceTensor& t) { return t.id == id; });
    if (second != found.end()) {
      return TensorError(PathOf(*second), second->name, "presence", "one",
                         Cat("another, ", QuotedName(it->name), " in ", BaseName(PathOf(*it))));
    }
    tensors_.push_back(*it);
  }
  return absl::OkStatus();
}

absl::Status ModelSource::CheckVocabulary() {
  const auto pieces = static_cast<std::int64_t>(vocabulary_.pieces.size());
  if (pieces > config_.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(main_file(), ": vocabulary: expected at most ", config_.vocab_size,
                     " pieces (the embedding's rows), found ", pieces));
  }
  for (std::int64_t id = 0; id < pieces; ++id) {
    if (vocabulary_.pieces[static_cast<std::size_t>(id)].text != kEndOfTurn) continue;
    const auto end = static_cast<std::int32_t>(id);
    std::vector<std::int32_t>& ids = config_.eos_ids;
    if (std::find(ids.begin(), ids.end(), end) == ids.end()) ids.push_back(end);
  }
  return absl::OkStatus();
}

std::vector<std::string> ModelSource::file_names() const {
  std::vector<std::string> names;
  for (const std::string& path : files_.weights) names.push_back(BaseName(path));
  return names;
}

const SourceTensor& ModelSource::Find(TensorId id) const {
  const auto it = std::find_if(tensors_.begin(), tensors_.end(),
                               [&](const SourceTensor& t) { return t.id == id; });
  TANDEM_CHECK(it != tensors_.end());
  return *it;
}

absl::Status ModelSource::ReadRows(const SourceTensor& tensor, std::int64_t first_row,
                                   std::int64_t rows, std::span<std::byte> out) const {
  const std::uint64_t row_bytes = RowBytesOf(tensor.type, tensor.shape.cols);
  TANDEM_CHECK(first_row >= 0 && rows >= 0 && first_row + rows <= tensor.shape.rows);
  TANDEM_CHECK(out.size() == row_bytes * static_cast<std::uint64_t>(rows));
  const absl::Status status = inputs_[tensor.file].ReadAt(
      tensor.offset + static_cast<std::uint64_t>(first_row) * row_bytes, out);
  if (status.ok()) return status;
  const std::string_view message(status.message().data(), status.message().size());
  const std::size_t after_path = std::min(message.size(), PathOf(tensor).size() + 2);
  return absl::Status(status.code(), Cat(PathOf(tensor), ": tensor ", QuotedName(tensor.name), ": ",
                                         message.substr(after_path)));
}

}  // namespace tandem
