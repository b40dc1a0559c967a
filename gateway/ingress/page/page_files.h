#pragma once

#include <optional>
#include <string_view>

#include "gateway/ingress/http/http_types.h"

namespace tandem {

// The gateway's page: static files that the program carries, at "/" and "/page/". They hold nothing
// that is secret, and load nothing from elsewhere: a policy in the reply forbids it.
bool IsPageFile(std::string_view path);
// The file, which must be one.
HttpReply PageFile(std::string_view path);

}  // namespace tandem
