#pragma once

#include "gateway/ingress/grpc/grpc_server.h"
#include "gateway/ingress/http/http_server.h"
#include "lib/service/cluster_settings.h"

namespace tandem {

// Logs every HTTP request and every call of Tandem's own gRPC services where --access_log asks for
// it, with its body where --log_prompts does.
void AddAccessLog(const GatewaySettings& settings, HttpServerOptions* options);
void AddAccessLog(const GatewaySettings& settings, GrpcServerOptions* options);

}  // namespace tandem
