#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/fd.h"

namespace tandem {

struct TestReply {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks put together
  nlohmann::json Json() const;                 // null when it is no JSON
};

// A blocking HTTP client that shows what is on the wire. Reads give up (and fail the process's
// checks) after a minute.
class HttpTestClient {
 public:
  // "127.0.0.1:PORT" or "unix:/path".
  explicit HttpTestClient(const std::string& address);

  void Send(std::string_view bytes);
  void SendRequest(std::string_view method, std::string_view path, std::string_view body = "",
                   std::string_view headers = "");
  // The head of the next reply; then ReadBody or ReadEvent.
  TestReply ReadHead();
  void ReadBody(TestReply& reply);
  TestReply Read();  // both
  // The data of the next server-sent event of a reply; nullopt at the body's end.
  std::optional<std::string> ReadEvent();
  // Whether the server has closed: reads what is left first.
  bool ReadToEnd();
  void Close() { fd_.Reset(); }

 private:
  bool Fill();  // more bytes; false at the end
  std::string ReadLine();
  std::string ReadBytes(std::size_t count);
  std::optional<std::string> ReadChunk();

  UniqueFd fd_;
  std::string buffer_;
  std::string events_;
  std::optional<std::size_t> length_;  // of the body being read, where the head told
};

}  // namespace tandem
