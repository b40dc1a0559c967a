#pragma once

#include "gateway/ingress/http/http_server.h"
#include "lib/service/cluster_settings.h"

namespace tandem {

// Logs every HTTP request where --access_log asks for it, with its body where --log_prompts does.
void AddAccessLog(const GatewaySettings& settings, HttpServerOptions* options);

}  // namespace tandem
