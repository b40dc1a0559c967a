#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/ingress/http/http_types.h"

namespace tandem {

// Web pages of other origins that may use the HTTP API from a browser: none unless they are listed.
// Pages never get to use cookies or the like (credentials); they send a key as everybody does.
class CorsRules {
 public:
  CorsRules() = default;
  // "https://app.example", "http://localhost:3000", "app://obsidian.md"; "*" stands for all.
  // InvalidArgument for what is no origin.
  static absl::StatusOr<CorsRules> Create(const std::vector<std::string>& origins);

  bool Allows(std::string_view origin) const;
  // What every answer to a page of an allowed origin carries; nothing for other requests.
  HttpHeaders HeadersFor(std::string_view origin) const;

  // A browser asks in this way before it sends what a page wants to send.
  static bool IsPreflight(const HttpRequest& head);
  // The answer, beyond HeadersFor. Names of headers that are none are left out.
  static HttpReply PreflightReply(const HttpRequest& head);

 private:
  bool any_ = false;
  std::set<std::string, std::less<>> origins_;
};

}  // namespace tandem
