#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include "gateway/ingress/grpc/server_call.h"

namespace tandem {

// gRPC's server reflection, v1 and v1alpha, over the protocols that are linked into the program.
// gRPC's own knows v1alpha alone, cannot describe gRPC's health service and takes a thread for
// every call.
class ReflectionService final : public grpc::Service {
 public:
  // `host` outlives the service.
  explicit ReflectionService(CallHost& host);
};

}  // namespace tandem
