#include "gateway/ingress/request/request.h"

#include "gateway/ingress/request/error.h"
#include "lib/base/strings.h"

namespace tandem {

absl::Status CheckLimits(const InferenceRequest& request, const RequestLimits& limits) {
  if (request.stops.size() > static_cast<std::size_t>(limits.max_stops)) {
    return InvalidField("stop", Cat("'stop': expected at most ", limits.max_stops,
                                    " strings, found ", request.stops.size()));
  }
  const std::int64_t choices =
      static_cast<std::int64_t>(request.prompts.size()) * std::int64_t{request.n};
  if (!request.embed.has_value() && choices > limits.max_choices) {
    return InvalidField(request.n > 1 ? "n" : request.prompt_field,
                        Cat("prompts times 'n': expected at most ", limits.max_choices,
                            " choices, found ", choices));
  }
  std::size_t schema = request.response_format.definition.size();
  for (const Tool& tool : request.tools) schema += tool.parameters.size();
  if (schema > limits.max_schema) {
    return InvalidField(request.tools.empty() ? "response_format" : "tools",
                        Cat("schemas and grammars of a request: expected at most ",
                            limits.max_schema, " bytes together, found ", schema));
  }
  return absl::OkStatus();
}

}  // namespace tandem
