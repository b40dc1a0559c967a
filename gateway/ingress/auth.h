#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/clock.h"
#include "lib/service/api_keys.h"

namespace tandem {

class KeyAccount;

// A request that a key's limits let in, as long as it lives. Without keys it is empty and costs
// nobody anything.
class KeyUse {
 public:
  KeyUse() = default;
  KeyUse(KeyUse&& other) noexcept = default;
  KeyUse& operator=(KeyUse&& other) noexcept;
  ~KeyUse() { End(); }

  // Tokens of the prompt or the answer, which count for the key's minute. Any thread.
  void Charge(std::int64_t tokens) const;
  // The name of the key, for logs; empty without one.
  std::string_view name() const;

 private:
  friend class ApiKeys;
  explicit KeyUse(std::shared_ptr<KeyAccount> account) : account_(std::move(account)) {}
  void End();
  std::shared_ptr<KeyAccount> account_;
};

// The API keys that callers of the public ports must show. With none, everybody may call (and the
// ports stay on loopback: see listen_address.h). Thread-safe; copies are the same keys.
class ApiKeys {
 public:
  ApiKeys();
  // Plain keys, which may do everything. InvalidArgument for one that CheckApiKeys of
  // lib/service/api_keys.h refuses.
  static absl::StatusOr<ApiKeys> Create(const std::vector<std::string>& keys);
  // All keys of a file, see NeedKeyRules.
  static absl::StatusOr<ApiKeys> ReadFile(const std::string& path);
  static ApiKeys FromRules(const std::vector<ApiKeyRule>& rules,
                           const Clock& clock = Clock::Real());

  // Takes the rules in place of those before. A key that stays keeps what it has used; one that is
  // gone opens nothing more, but what it began runs on. No rules: nobody is let in.
  void Replace(const std::vector<ApiKeyRule>& rules);

  bool required() const;

  // `authorization`: the value of the header or metadata entry, "Bearer KEY" ("" when absent).
  // Unauthenticated unless a key is right or none is required, PermissionDenied where it lacks the
  // scope. The time taken depends on the length of what was sent and on the number of keys, not on
  // which of them it is like.
  absl::Status Check(std::string_view authorization, KeyScope scope = KeyScope::kInference) const;
  // The same for a request that the key's limits count. ResourceExhausted, with RetryAfter of
  // request/error.h, when one of them is reached.
  absl::StatusOr<KeyUse> Admit(std::string_view authorization,
                               KeyScope scope = KeyScope::kInference) const;

 private:
  struct State;
  absl::StatusOr<std::shared_ptr<KeyAccount>> Find(std::string_view authorization,
                                                   KeyScope scope) const;
  std::shared_ptr<State> state_;
};

}  // namespace tandem
