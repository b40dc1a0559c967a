#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

struct TokenizeRequest {
  std::string model;
  // A chat, or a text.
  Prompt prompt;
  bool add_special = true;
  bool parse_special = true;
  // The tokens' texts too.
  bool pieces = false;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<std::int32_t> tokens;
};

// vLLM's "prompt" or "messages", or llama.cpp's "content". Errors are InvalidArgument with the
// field's name.
absl::StatusOr<TokenizeRequest> ReadTokenizeRequest(std::string_view body,
                                                    const ReadOptions& options = {});
absl::StatusOr<DetokenizeRequest> ReadDetokenizeRequest(std::string_view body,
                                                        const ReadOptions& options = {});

}  // namespace tandem
