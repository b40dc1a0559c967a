#include "gateway/ingress/doors/responses/response_store.h"

#include <utility>

namespace tandem {
namespace {

// What an entry costs beside its texts: maps, lists, allocations.
constexpr std::size_t kEntryBytes = 1024;

}  // namespace

std::size_t StoredResponse::Bytes() const {
  std::size_t bytes = kEntryBytes + id.size() + owner.size() + json.size() + input_items.size();
  for (const Message& message : messages) {
    bytes += sizeof(Message) + message.tool_call_id.size() + message.tool_name.size();
    for (const std::string& part : message.parts) bytes += sizeof(part) + part.size();
    for (const ToolCall& call : message.tool_calls) {
      bytes += sizeof(call) + call.id.size() + call.name.size() + call.arguments.size();
    }
  }
  return bytes;
}

void ResponseStore::EraseLocked(Order::iterator at) {
  bytes_ -= (*at)->Bytes();
  by_id_.erase((*at)->id);
  order_.erase(at);
}

void ResponseStore::Put(StoredResponse response) {
  const std::size_t bytes = response.Bytes();
  if (bytes > max_bytes_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto found = by_id_.find(response.id); found != by_id_.end()) {
    EraseLocked(found->second);
  }
  while (bytes_ + bytes > max_bytes_) EraseLocked(std::prev(order_.end()));
  order_.push_front(std::make_shared<const StoredResponse>(std::move(response)));
  by_id_[order_.front()->id] = order_.begin();
  bytes_ += bytes;
}

std::shared_ptr<const StoredResponse> ResponseStore::Get(std::string_view id,
                                                         std::string_view owner) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_id_.find(std::string(id));
  if (found == by_id_.end() || (*found->second)->owner != owner) return nullptr;
  order_.splice(order_.begin(), order_, found->second);
  return order_.front();
}

bool ResponseStore::Delete(std::string_view id, std::string_view owner) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_id_.find(std::string(id));
  if (found == by_id_.end() || (*found->second)->owner != owner) return false;
  EraseLocked(found->second);
  return true;
}

}  // namespace tandem
