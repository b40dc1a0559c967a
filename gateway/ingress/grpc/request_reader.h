#pragma once

// Internal to grpc/. Needs no gRPC.

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// Requests as every door's are. InvalidArgument names the field.
absl::StatusOr<InferenceRequest> ReadGenerateRequest(const v1::GenerateRequest& from);
absl::StatusOr<InferenceRequest> ReadEmbedRequest(const v1::EmbedRequest& from);

}  // namespace tandem
