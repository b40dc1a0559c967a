#include "tests/unit/gateway/ingress/http_test_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

int Connect(const std::string& address) {
  if (address.starts_with("unix:")) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strncpy(name.sun_path, address.c_str() + 5, sizeof(name.sun_path) - 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    TANDEM_CHECK(connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0);
    return fd;
  }
  sockaddr_in name{};
  name.sin_family = AF_INET;
  const std::size_t colon = address.rfind(':');
  TANDEM_CHECK(inet_pton(AF_INET, address.substr(0, colon).c_str(), &name.sin_addr) == 1);
  name.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1))));
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  TANDEM_CHECK(connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0);
  return fd;
}

}  // namespace

nlohmann::json TestReply::Json() const {
  return nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
}

HttpTestClient::HttpTestClient(const std::string& address) : fd_(Connect(address)) {
  const timeval minute{.tv_sec = 60, .tv_usec = 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof(minute));
}

void HttpTestClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the reply tells why
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

void HttpTestClient::SendRequest(std::string_view method, std::string_view path,
                                 std::string_view body, std::string_view headers) {
  std::string text(method);
  text.append(" ").append(path).append(" HTTP/1.1\r\nHost: localhost\r\n").append(headers);
  if (!body.empty()) {
    text.append("Content-Type: application/json\r\nContent-Length: ");
    text.append(std::to_string(body.size())).append("\r\n");
  }
  text.append("\r\n").append(body);
  Send(text);
}

bool HttpTestClient::Fill() {
  char bytes[4096];
  const ssize_t count = recv(fd_.get(), bytes, sizeof(bytes), 0);
  TANDEM_CHECK(count >= 0 || errno == ECONNRESET);  // EAGAIN: nothing came for a minute
  if (count <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(count));
  return true;
}

std::string HttpTestClient::ReadLine() {
  std::size_t end;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    if (!Fill()) return "";
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

std::string HttpTestClient::ReadBytes(std::size_t count) {
  while (buffer_.size() < count && Fill()) {
  }
  std::string bytes = buffer_.substr(0, count);
  buffer_.erase(0, count);
  return bytes;
}

TestReply HttpTestClient::ReadHead() {
  TestReply reply;
  const std::string line = ReadLine();
  if (!line.starts_with("HTTP/1.1 ")) return reply;
  reply.status = std::stoi(line.substr(9, 3));
  for (std::string header = ReadLine(); !header.empty(); header = ReadLine()) {
    const std::size_t colon = header.find(": ");
    reply.headers[absl::AsciiStrToLower(header.substr(0, colon))] = header.substr(colon + 2);
  }
  length_.reset();
  if (reply.headers.contains("content-length")) {
    length_ = std::stoul(reply.headers["content-length"]);
  }
  return reply;
}

// The whole body at once where its length is known.
std::optional<std::string> HttpTestClient::ReadChunk() {
  if (length_.has_value()) {
    const std::size_t length = std::exchange(length_, 0).value();
    if (length == 0) return std::nullopt;
    return ReadBytes(length);
  }
  const std::string length = ReadLine();
  if (length.empty()) return std::nullopt;
  const std::size_t size = std::stoul(length, nullptr, 16);
  std::string chunk = ReadBytes(size);
  ReadLine();
  if (size == 0) return std::nullopt;
  return chunk;
}

void HttpTestClient::ReadBody(TestReply& reply) {
  if (reply.status == 204) return;
  if (reply.headers.contains("content-length")) {
    reply.body = ReadBytes(std::stoul(reply.headers["content-length"]));
  } else if (reply.headers.contains("transfer-encoding")) {
    while (auto chunk = ReadChunk()) reply.body.append(*chunk);
  } else {
    while (Fill()) {
    }
    reply.body = std::move(buffer_);
    buffer_.clear();
  }
}

TestReply HttpTestClient::Read() {
  TestReply reply = ReadHead();
  ReadBody(reply);
  return reply;
}

std::optional<std::string> HttpTestClient::ReadEvent() {
  std::size_t end;
  while ((end = events_.find("\n\n")) == std::string::npos) {
    auto chunk = ReadChunk();
    if (!chunk.has_value()) return std::nullopt;
    events_.append(*chunk);
  }
  std::string event = events_.substr(0, end);
  events_.erase(0, end + 2);
  return event.starts_with("data: ") ? event.substr(6) : "not data: " + event;
}

bool HttpTestClient::ReadToEnd() {
  while (Fill()) {
  }
  return true;
}

}  // namespace tandem
