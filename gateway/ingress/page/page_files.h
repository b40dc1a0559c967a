#pragma once

#include <string_view>
#include <vector>

#include "gateway/ingress/http/http_types.h"

namespace tandem {

// The gateway's page: static files that the program carries, at "/" and "/page/". They hold nothing
// that is secret, and load nothing from elsewhere: a policy in the reply forbids it.
std::vector<std::string_view> PagePaths();
// The file at one of these paths.
HttpReply PageFile(std::string_view path);

}  // namespace tandem
