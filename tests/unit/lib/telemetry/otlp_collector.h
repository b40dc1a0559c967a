#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/fd.h"

namespace tandem {

// An OpenTelemetry collector's port that takes one request at a time, where the test says so.
class OtlpCollector {
 public:
  static constexpr char kTaken[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

  OtlpCollector() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(fd_.get(), 8), 0);
    socklen_t size = sizeof(address);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  std::string endpoint() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/v1/traces";
  }
  // The next request, answered; nothing where none comes for a while.
  std::string Take(const std::string& reply = kTaken) {
    pollfd entry{fd_.get(), POLLIN, 0};
    if (::poll(&entry, 1, 30'000) != 1) return "";
    const UniqueFd client(::accept(fd_.get(), nullptr, nullptr));
    std::string text;
    char part[4096];
    while (!Whole(text)) {
      const ssize_t got = ::recv(client.get(), part, sizeof(part), 0);
      if (got <= 0) break;
      text.append(part, static_cast<std::size_t>(got));
    }
    ::send(client.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
    return text;
  }
  static nlohmann::json Body(const std::string& request) {
    const std::size_t head = request.find("\r\n\r\n");
    if (head == std::string::npos) throw std::runtime_error("no request came");
    return nlohmann::json::parse(request.substr(head + 4));
  }
  // Spans of the next request, each with the name of its source as "instance".
  std::vector<nlohmann::json> TakeSpans() {
    std::vector<nlohmann::json> spans;
    const nlohmann::json body = Body(Take());
    for (const nlohmann::json& resource : body["resourceSpans"]) {
      for (nlohmann::json span : resource["scopeSpans"][0]["spans"]) {
        for (const nlohmann::json& attribute : resource["resource"]["attributes"]) {
          if (attribute["key"] == "service.instance.id")
            span["instance"] = attribute["value"]["stringValue"];
        }
        spans.push_back(std::move(span));
      }
    }
    return spans;
  }
  // From now on nobody listens there.
  void Close() { fd_.Reset(); }

 private:
  static bool Whole(const std::string& text) {
    const std::size_t head = text.find("\r\n\r\n");
    const std::size_t length = text.find("Content-Length: ");
    return head != std::string::npos &&
           text.size() - head - 4 == std::stoul(text.substr(length + 16));
  }
  UniqueFd fd_;
  int port_ = 0;
};

}  // namespace tandem
