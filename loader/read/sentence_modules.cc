#include "loader/read/sentence_modules.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "loader/read/input_file.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;

absl::Status Wrong(std::string_view key, std::string_view expected, const Json* found) {
  return absl::InvalidArgumentError(Cat(
      "'", key, "': expected ", expected, ", found ",
      found == nullptr ? std::string("nothing")
                       : QuotedName(found->dump(-1, ' ', true, Json::error_handler_t::replace))));
}

const Json* Member(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<Json> ParseObject(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(Json root, ParseJson(text));
  if (!root.is_object()) return Wrong("the file", "a JSON object", &root);
  return root;
}

absl::StatusOr<std::string> NeededString(const Json& object, const char* key) {
  const Json* value = Member(object, key);
  if (value == nullptr || !value->is_string()) return Wrong(key, "a text", value);
  return value->get<std::string>();
}

absl::StatusOr<std::int32_t> NeededSize(const Json& object, const char* key) {
  const Json* value = Member(object, key);
  if (value == nullptr || !value->is_number_unsigned() || value->get<std::uint64_t>() == 0 ||
      value->get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max()) {
    return Wrong(key, "1 to 2147483647", value);
  }
  return value->get<std::int32_t>();
}

// "Dense" of "sentence_transformers.models.Dense", the class and its module of any version.
std::string KindOf(const std::string& type) { return type.substr(type.rfind('.') + 1); }

struct Module {
  std::string kind;
  std::string folder;
};

absl::StatusOr<std::vector<Module>> ReadModules(const Json& root) {
  constexpr std::size_t kMostModules = 16;
  if (!root.is_array() || root.size() > kMostModules)
    return Wrong("the file", "a list of at most 16 modules", &root);
  std::vector<Module> modules;
  for (const Json& entry : root) {
    if (!entry.is_object()) return Wrong("a module", "an object", &entry);
    TANDEM_ASSIGN_OR_RETURN(const std::string type, NeededString(entry, "type"));
    TANDEM_ASSIGN_OR_RETURN(const std::string path, NeededString(entry, "path"));
    modules.push_back({KindOf(type), path});
  }
  return modules;
}

absl::Status CheckFolder(const std::string& folder) {
  if (!folder.empty() && folder.find_first_of(std::string_view("/\0", 2)) == std::string::npos &&
      folder != "." && folder != "..") {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      Cat("'path': expected the name of a folder beside the file, found ", QuotedName(folder)));
}

}  // namespace

absl::StatusOr<SentenceModules> ParseSentenceModules(std::string_view json) {
  TANDEM_ASSIGN_OR_RETURN(const Json root, ParseJson(json));
  TANDEM_ASSIGN_OR_RETURN(std::vector<Module> modules, ReadModules(root));
  std::string order;
  for (const Module& module : modules)
    absl::StrAppend(&order, order.empty() ? "" : ", ", module.kind);
  // What an embedding is scaled to is the client's choice.
  if (!modules.empty() && modules.back().kind == "Normalize") modules.pop_back();
  const bool encoder = modules.size() >= 2 && modules[0].kind == "Transformer" &&
                       modules[0].folder.empty() && modules[1].kind == "Pooling";
  const bool dense =
      modules.size() == 4 && modules[2].kind == "Dense" && modules[3].kind == "Dense";
  if (!encoder || (modules.size() != 2 && !dense)) {
    return absl::InvalidArgumentError(
        Cat("modules: expected Transformer (in this folder), Pooling, none or two Dense and "
            "perhaps Normalize, found ",
            QuotedName(order)));
  }
  SentenceModules found;
  found.pooling = modules[1].folder;
  for (std::size_t i = 2; i < modules.size(); ++i) found.dense.push_back(modules[i].folder);
  for (std::size_t i = 1; i < modules.size(); ++i)
    TANDEM_RETURN_IF_ERROR(CheckFolder(modules[i].folder));
  return found;
}

absl::Status CheckPoolingConfig(std::string_view json, std::int32_t hidden) {
  TANDEM_ASSIGN_OR_RETURN(const Json root, ParseObject(json));
  const char* const width =
      root.contains("embedding_dimension") ? "embedding_dimension" : "word_embedding_dimension";
  TANDEM_ASSIGN_OR_RETURN(const std::int32_t found, NeededSize(root, width));
  if (found != hidden)
    return Wrong(width, absl::StrCat(hidden, " (from the configuration)"), Member(root, width));
  if (const Json* mode = Member(root, "pooling_mode"); mode != nullptr) {
    if (*mode != "mean") return Wrong("pooling_mode", "mean", mode);
  } else {
    const Json* mean = Member(root, "pooling_mode_mean_tokens");
    if (mean == nullptr || *mean != true) return Wrong("pooling_mode_mean_tokens", "true", mean);
  }
  for (const auto& [key, value] : root.items()) {
    const bool another = key.starts_with("pooling_mode_") && key != "pooling_mode_mean_tokens";
    if (another && value != false) return Wrong(QuotedName(key), "false", &value);
  }
  // Without it the tokens of a prompt in front of the text would not count.
  const Json* prompt = Member(root, "include_prompt");
  if (prompt != nullptr && *prompt != true) return Wrong("include_prompt", "true", prompt);
  return absl::OkStatus();
}

absl::StatusOr<DenseConfig> ParseDenseConfig(std::string_view json) {
  TANDEM_ASSIGN_OR_RETURN(const Json root, ParseObject(json));
  DenseConfig config;
  TANDEM_ASSIGN_OR_RETURN(config.in, NeededSize(root, "in_features"));
  TANDEM_ASSIGN_OR_RETURN(config.out, NeededSize(root, "out_features"));
  const Json* bias = Member(root, "bias");
  if (bias == nullptr || *bias != false) return Wrong("bias", "false", bias);
  TANDEM_ASSIGN_OR_RETURN(const std::string activation, NeededString(root, "activation_function"));
  if (KindOf(activation) != "Identity")
    return Wrong("activation_function", "Identity", Member(root, "activation_function"));
  return config;
}

}  // namespace tandem
