#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"
#include "gateway/schedule/engine.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// What the public ports say and need to know of the model that is served.
struct ServedModelInfo {
  std::string id;
  std::int64_t created = 0;  // Unix seconds
  std::string weight_format;
  std::shared_ptr<const Tokenizer> tokenizer;
  // Tokens that end a text.
  std::vector<std::int32_t> eos_ids;
};

struct Serving {
  ServedModelInfo model;
  Engine* engine = nullptr;  // outlives the servers
  RequestLimits limits;
};

// The ports open before the model is there: this holds what they serve once it is. Thread-safe.
class ServingSlot {
 public:
  void Set(std::shared_ptr<const Serving> serving) {
    const std::lock_guard<std::mutex> lock(mutex_);
    serving_ = std::move(serving);
  }
  // UNAVAILABLE while the model is still loading.
  absl::StatusOr<std::shared_ptr<const Serving>> Get() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (serving_ == nullptr) return absl::UnavailableError("the model is still being loaded");
    return serving_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Serving> serving_;
};

}  // namespace tandem
