#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/ingress/request/request.h"

namespace tandem {

// An answer of /v1/responses that a later request may go on from, or ask for again.
struct StoredResponse {
  std::string id;
  // Who asked: others do not find it. The key that was shown, or "".
  std::string owner;
  // The conversation up to and with the answer, without instructions.
  std::vector<Message> messages;
  // As it was answered.
  std::string json;
  // {"object": "list", ...} of what was asked.
  std::string input_items;

  std::size_t Bytes() const;
};

// Keeps the responses that were used last, under a bound of bytes: those that were not used for
// longest go first. Nothing of it is written anywhere. Thread-safe.
class ResponseStore {
 public:
  explicit ResponseStore(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  // One over the whole bound is not kept.
  void Put(StoredResponse response);
  // Null when it is not there, or another's.
  std::shared_ptr<const StoredResponse> Get(std::string_view id, std::string_view owner);
  bool Delete(std::string_view id, std::string_view owner);

 private:
  using Order = std::list<std::shared_ptr<const StoredResponse>>;
  void EraseLocked(Order::iterator at);

  const std::size_t max_bytes_;
  std::mutex mutex_;
  // The most recently used first.
  Order order_;
  std::unordered_map<std::string, Order::iterator> by_id_;
  std::size_t bytes_ = 0;
};

}  // namespace tandem
