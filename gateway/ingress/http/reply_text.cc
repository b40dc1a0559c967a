#include "gateway/ingress/http/reply_text.h"
#include "lib/text/cat.h"

#include <boost/beast/http/status.hpp>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace tandem {

std::string ReplyHead(const HttpReply& reply, std::optional<std::size_t> length, bool chunked,
                      bool keep_alive) {
  const auto reason =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(reply.status));
  std::string head =
      Cat("HTTP/1.1 ", reply.status, " ", std::string_view(reason.data(), reason.size()),
          "\r\nServer: tandem\r\nDate: ",
          absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
          "\r\nContent-Type: ", reply.content_type, "\r\n");
  if (length.has_value()) head.append(Cat("Content-Length: ", *length, "\r\n"));
  if (chunked) head.append(Cat("Transfer-Encoding: chunked\r\n"));
  for (const auto& [name, value] : reply.headers) head.append(Cat(name, ": ", value, "\r\n"));
  head.append(Cat("Connection: ", keep_alive ? "keep-alive" : "close", "\r\n\r\n"));
  return head;
}

std::string ChunkOf(std::string_view bytes) {
  return Cat(absl::Hex(bytes.size()), "\r\n", bytes, "\r\n");
}

}  // namespace tandem
