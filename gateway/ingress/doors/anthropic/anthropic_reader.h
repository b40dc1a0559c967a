#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// A request of /v1/messages, or (`count_only`) of /v1/messages/count_tokens, which says nothing of
// sampling. A conversation that ends with the assistant is continued. Errors are InvalidArgument
// with the field's name.
absl::StatusOr<InferenceRequest> ReadMessagesRequest(std::string_view body,
                                                     const ReadOptions& options = {},
                                                     bool count_only = false);

}  // namespace tandem
