#include "cli/cluster_options.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

std::map<std::string, std::string*> TextFields(ClusterOptions* o) {
  return {{"model", &o->model},
          {"quant", &o->quant},
          {"plan", &o->plan},
          {"npu", &o->npu},
          {"gpu", &o->gpu},
          {"http", &o->http},
          {"grpc", &o->grpc},
          {"kv_type", &o->kv_type},
          {"activations", &o->activations},
          {"edge_kinds", &o->edge_kinds},
          {"model_id", &o->model_id},
          {"api_key_file", &o->api_key_file},
          {"log_level", &o->log_level},
          {"gpu_weights", &o->gpu_weights}};
}

std::map<std::string, std::int32_t*> NumberFields(ClusterOptions* o) {
  return {{"context", &o->context}, {"max_sequences", &o->max_sequences}, {"threads", &o->threads}};
}

absl::Status CheckOneOf(const std::string& flag, const std::string& value,
                        const std::vector<std::string>& allowed) {
  for (const std::string& a : allowed) {
    if (value == a) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, ": expected one of ", absl::StrJoin(allowed, ", "), ", found '", value, "'"));
}

absl::Status AddWorkers(const std::string& role, const std::string& devices,
                        std::vector<WorkerOptions>* workers) {
  if (devices == "none") return absl::OkStatus();
  int number = 0;
  for (const std::string& device : std::vector<std::string>(absl::StrSplit(devices, ','))) {
    if (device.empty() || device == "none") {
      return absl::InvalidArgumentError(absl::StrCat(
          "--", role, ": expected device names with commas between them, or 'none' alone, found '",
          devices, "'"));
    }
    if (role == "npu") TANDEM_RETURN_IF_ERROR(CheckOneOf("npu", device, {"cpu", "xrt"}));
    workers->push_back({absl::StrCat(role, number++), role, device});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyConfigJson(std::string_view text, std::string_view file,
                             ClusterOptions* options) {
  const auto error = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("configuration ", AbslView(file), ": ", what));
  };
  const Json json =
      Json::parse(text, nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
  if (json.is_discarded()) return error("expected JSON, found text that does not parse");
  if (!json.is_object()) return error(absl::StrCat("expected an object, found ", json.type_name()));
  const auto texts = TextFields(options);
  const auto numbers = NumberFields(options);
  for (const auto& [key, value] : json.items()) {
    if (const auto t = texts.find(key); t != texts.end()) {
      if (!value.is_string())
        return error(absl::StrCat("'", key, "': expected a string, found ", value.type_name()));
      *t->second = value.get<std::string>();
    } else if (const auto n = numbers.find(key); n != numbers.end()) {
      if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
          value.get<std::int64_t>() > 1 << 30) {
        return error(absl::StrCat("'", key, "': expected a whole number from 0 to ", 1 << 30,
                                  ", found ", value.dump()));
      }
      *n->second = value.get<std::int32_t>();
    } else {
      std::vector<std::string> known;
      for (const auto& [name, unused] : texts) known.push_back(name);
      for (const auto& [name, unused] : numbers) known.push_back(name);
      return error(absl::StrCat("unknown key '", key, "'; known are ", absl::StrJoin(known, ", ")));
    }
  }
  return absl::OkStatus();
}

absl::Status FinishOptions(ClusterOptions* options) {
  if (options->model.empty()) {
    return absl::InvalidArgumentError(
        "--model: expected the path of a GGUF file, a safetensors file or a folder, found nothing");
  }
  std::error_code error;
  if (!std::filesystem::exists(options->model, error)) {
    return absl::NotFoundError(absl::StrCat("--model: '", options->model, "' does not exist"));
  }
  options->model = std::filesystem::absolute(options->model).string();
  TANDEM_RETURN_IF_ERROR(CheckOneOf("quant", options->quant, {"bf16", "int8", "int4", "as-is"}));
  TANDEM_RETURN_IF_ERROR(CheckOneOf("activations", options->activations, {"float32", "int8"}));
  if (!options->kv_type.empty())
    TANDEM_RETURN_IF_ERROR(CheckOneOf("kv_type", options->kv_type, {"float32", "float16"}));
  TANDEM_RETURN_IF_ERROR(CheckOneOf("gpu_weights", options->gpu_weights, {"zero-copy", "upload"}));
  options->workers.clear();
  TANDEM_RETURN_IF_ERROR(AddWorkers("npu", options->npu, &options->workers));
  TANDEM_RETURN_IF_ERROR(AddWorkers("gpu", options->gpu, &options->workers));
  if (options->workers.empty()) {
    return absl::InvalidArgumentError(
        "--npu and --gpu: expected at least one device, found 'none' for both");
  }
  const bool npu = options->npu != "none";
  const bool gpu = options->gpu != "none";
  if (options->plan.empty()) options->plan = npu && gpu ? "split" : gpu ? "gpu" : "npu";
  if (!options->api_key_file.empty())
    options->api_key_file = std::filesystem::absolute(options->api_key_file).string();
  const std::string plan = options->plan.substr(0, options->plan.find(':'));
  TANDEM_RETURN_IF_ERROR(CheckOneOf("plan", plan, {"gpu", "npu", "split", "layers"}));
  if ((plan == "gpu" || plan == "split") && !gpu) {
    return absl::InvalidArgumentError(
        absl::StrCat("--plan ", plan, ": expected a GPU, found --gpu none"));
  }
  if ((plan == "npu" || plan == "split") && !npu) {
    return absl::InvalidArgumentError(
        absl::StrCat("--plan ", plan,
                     ": expected an NPU, found --npu none (--npu xrt, or --npu cpu to run its part "
                     "on the CPU)"));
  }
  return absl::OkStatus();
}

}  // namespace tandem
