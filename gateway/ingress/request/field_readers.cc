#include "gateway/ingress/request/field_readers.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/json_text.h"
#include "gateway/ingress/request/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxToolName = 64;

absl::Status ReadLogitBias(const JsonFields& fields, SamplingWishes& wishes) {
  const Json* bias = fields.Find("logit_bias");
  if (bias == nullptr) return absl::OkStatus();
  if (!bias->is_object()) return fields.WrongType("logit_bias", "an object of token id to number");
  for (const auto& [key, value] : bias->items()) {
    std::int64_t token = 0;
    if (!absl::SimpleAtoi(key, &token)) {
      return InvalidField("logit_bias",
                          Cat("'logit_bias': expected token ids as keys, found '", key, "'"));
    }
    if (!value.is_number()) {
      return InvalidField("logit_bias", Cat("'logit_bias': expected a number for token ", token,
                                            ", found ", JsonTypeName(value)));
    }
    wishes.logit_bias.emplace_back(token, value.get<double>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSampling(const JsonFields& fields, InferenceRequest& request) {
  SamplingWishes wishes;
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("temperature", wishes.temperature));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("top_p", wishes.top_p));
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("top_k", wishes.top_k));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("min_p", wishes.min_p));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("frequency_penalty", wishes.frequency_penalty));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("presence_penalty", wishes.presence_penalty));
  TANDEM_RETURN_IF_ERROR(ReadLogitBias(fields, wishes));
  TANDEM_ASSIGN_OR_RETURN(request.sampling, CheckedSampling(wishes));
  std::optional<std::int64_t> seed;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("seed", seed));
  request.has_seed = seed.has_value();
  if (seed.has_value()) request.sampling.seed = static_cast<std::uint64_t>(*seed);
  return absl::OkStatus();
}

absl::Status ReadStops(const JsonFields& fields, std::string_view name,
                       std::vector<std::string>& stops) {
  const Json* stop = fields.Find(name);
  if (stop == nullptr) return absl::OkStatus();
  if (stop->is_string()) {
    stops.push_back(stop->get<std::string>());
  } else if (stop->is_array()) {
    for (const Json& entry : *stop) {
      if (!entry.is_string()) {
        const std::string path = fields.PathOf(name);
        return InvalidField(path,
                            Cat("'", path, "': expected strings, found ", JsonTypeName(entry)));
      }
      stops.push_back(entry.get<std::string>());
    }
  } else {
    return fields.WrongType(name, "a string or an array of strings");
  }
  return CheckStops(stops);
}

absl::Status ReadMaxTokens(const JsonFields& fields, std::string_view name, std::int64_t least,
                           std::optional<std::int32_t>& max_tokens) {
  std::optional<std::int64_t> given;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger(name, given));
  if (!given.has_value() || *given == -1) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(max_tokens, CheckedMaxTokens(fields.PathOf(name), *given, least));
  return absl::OkStatus();
}

absl::Status ReadChatLogprobs(const JsonFields& fields, SamplingParams& sampling) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> wanted, fields.Bool("logprobs"));
  std::optional<std::int64_t> top;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("top_logprobs", top));
  TANDEM_ASSIGN_OR_RETURN(const std::int32_t count,
                          CheckedLogprobs("top_logprobs", top.value_or(0)));
  if (count > 0 && !wanted.value_or(false)) {
    return InvalidField("top_logprobs", "'top_logprobs' is allowed only with 'logprobs': true");
  }
  if (wanted.value_or(false)) sampling.num_logprobs = count;
  return absl::OkStatus();
}

absl::Status CheckToolName(std::string_view path, std::string_view name) {
  bool good = !name.empty() && name.size() <= kMaxToolName;
  for (const char c : name) {
    good = good && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-');
  }
  if (good) return absl::OkStatus();
  return InvalidField(
      path, Cat("'", path, "': expected 1 to ", kMaxToolName, " letters, digits, '_' or '-'"));
}

absl::StatusOr<Tool> ReadFunction(const Json& function, const std::string& path,
                                  std::string_view source, std::string_view parameters_name) {
  if (!function.is_object()) {
    return InvalidField(path,
                        Cat("'", path, "': expected an object, found ", JsonTypeName(function)));
  }
  const JsonFields fields(function, Cat(path, "."), source);
  Tool tool;
  TANDEM_ASSIGN_OR_RETURN(tool.name, fields.NeededString("name"));
  TANDEM_RETURN_IF_ERROR(CheckToolName(fields.PathOf("name"), tool.name));
  if (fields.Find("description") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(tool.description, fields.NeededString("description"));
  }
  if (const Json* parameters = fields.Find(parameters_name); parameters != nullptr) {
    if (!parameters->is_object()) return fields.WrongType(parameters_name, "a JSON Schema");
    tool.parameters = fields.TextOf(parameters_name);
    tool.field = fields.PathOf(parameters_name);
  }
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("strict", tool.strict));
  return tool;
}

absl::Status ReadTools(const JsonFields& fields, std::vector<Tool>& tools) {
  const Json* list = fields.Find("tools");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return fields.WrongType("tools", "an array of tools");
  if (list->size() > kMaxTools) {
    return InvalidField(
        "tools", Cat("'tools': expected at most ", kMaxTools, " tools, found ", list->size()));
  }
  const std::vector<std::string_view> sources = ElementTexts(fields.SourceOf("tools"));
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string path = Cat("tools[", i, "]");
    const Json& entry = (*list)[i];
    if (!entry.is_object()) {
      return InvalidField(path,
                          Cat("'", path, "': expected an object, found ", JsonTypeName(entry)));
    }
    const JsonFields tool(entry, Cat(path, "."), i < sources.size() ? sources[i] : "");
    TANDEM_ASSIGN_OR_RETURN(const std::string type, tool.NeededString("type"));
    if (type != "function") {
      return InvalidField(Cat(path, ".type"),
                          Cat("'", path, ".type': expected function, found '", type, "'"),
                          "unsupported_parameter");
    }
    const Json* function = tool.Find("function");
    if (function == nullptr) return tool.WrongType("function", "an object");
    TANDEM_ASSIGN_OR_RETURN(Tool read, ReadFunction(*function, Cat(path, ".function"),
                                                    tool.SourceOf("function"), "parameters"));
    tools.push_back(std::move(read));
  }
  return absl::OkStatus();
}

absl::Status ReadToolMode(const JsonFields& fields, std::string_view mode, ToolChoice& choice) {
  if (mode == "auto") {
    choice.mode = ToolChoice::Mode::kAuto;
  } else if (mode == "none") {
    choice.mode = ToolChoice::Mode::kNone;
  } else if (mode == "required") {
    choice.mode = ToolChoice::Mode::kRequired;
  } else {
    return InvalidField(fields.PathOf("tool_choice"),
                        Cat("'", fields.PathOf("tool_choice"),
                            "': expected none, auto, required or a function, found '", mode, "'"));
  }
  return absl::OkStatus();
}

absl::Status ReadSchemaFormat(const JsonFields& fields, ResponseFormat& format) {
  format.kind = ResponseFormat::Kind::kJsonSchema;
  if (fields.Find("name") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(format.name, fields.NeededString("name"));
  }
  const Json* schema = fields.Find("schema");
  if (schema != nullptr && !schema->is_object()) return fields.WrongType("schema", "a JSON Schema");
  format.definition = schema == nullptr ? "{}" : fields.TextOf("schema");
  format.field = fields.PathOf("schema");
  return fields.ReadBool("strict", format.strict);
}

absl::Status CheckTools(const InferenceRequest& request) {
  std::set<std::string_view> names;
  for (const Tool& tool : request.tools) {
    if (names.insert(tool.name).second) continue;
    return InvalidField("tools",
                        Cat("'tools': expected different names, found '", tool.name, "' twice"));
  }
  const ToolChoice& choice = request.tool_choice;
  if (choice.mode == ToolChoice::Mode::kNamed && !names.contains(choice.name)) {
    return InvalidField("tool_choice", Cat("'tool_choice': no tool is called '",
                                           choice.name.substr(0, kMaxToolName), "'"));
  }
  if (choice.mode == ToolChoice::Mode::kRequired && names.empty()) {
    return InvalidField("tool_choice", "'tool_choice': required, but there are no tools");
  }
  return absl::OkStatus();
}

}  // namespace tandem
