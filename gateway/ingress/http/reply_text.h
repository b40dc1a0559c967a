#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/ingress/http/http_types.h"

namespace tandem {

// The head of a reply as it stands on the wire, with the empty line. `length`: of the body; absent:
// `chunked`, or ended by closing the connection (HTTP/1.0).
std::string ReplyHead(const HttpReply& reply, std::optional<std::size_t> length, bool chunked,
                      bool keep_alive);
// One chunk of a chunked body; `bytes` must not be empty (that would end the body).
std::string ChunkOf(std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace tandem
