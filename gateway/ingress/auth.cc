#include "gateway/ingress/auth.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr double kMinuteSeconds = 60;

// So much a minute, with a full minute's worth at hand after a rest. What is taken may go into
// debt: the length of an answer is known only when it is there.
class Allowance {
 public:
  void SetPerMinute(std::int32_t per_minute, absl::Duration now) {
    if (per_minute == per_minute_) return;
    per_minute_ = per_minute;
    left_ = per_minute;
    seen_ = now;
  }
  // How long until there is some again.
  absl::Duration Wait(absl::Duration now) {
    if (per_minute_ == 0) return absl::ZeroDuration();
    const double rate = per_minute_ / kMinuteSeconds;
    left_ = std::min<double>(per_minute_, left_ + absl::ToDoubleSeconds(now - seen_) * rate);
    seen_ = now;
    return left_ >= 1 ? absl::ZeroDuration() : absl::Seconds((1 - left_) / rate);
  }
  void Take(std::int64_t amount) {
    if (per_minute_ > 0) left_ -= static_cast<double>(amount);
  }

 private:
  std::int32_t per_minute_ = 0;  // 0: no limit
  double left_ = 0;
  absl::Duration seen_;
};

}  // namespace

// A key's rule and what it has used. Thread-safe.
class KeyAccount {
 public:
  KeyAccount(const ApiKeyRule& rule, const Clock& clock) : name_(rule.name), clock_(clock) {
    SetRule(rule);
  }

  void SetRule(const ApiKeyRule& rule) {
    const std::lock_guard<std::mutex> lock(mutex_);
    rule_ = rule;
    requests_.SetPerMinute(rule.requests_per_minute, clock_.Uptime());
    tokens_.SetPerMinute(rule.tokens_per_minute, clock_.Uptime());
  }

  absl::Status Begin() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const absl::Duration now = clock_.Uptime();
    if (rule_.requests > 0 && running_ >= rule_.requests) {
      return Refusal(Cat(rule_.requests, " requests at a time"), absl::Seconds(1));
    }
    if (const absl::Duration wait = requests_.Wait(now); wait > absl::ZeroDuration()) {
      return Refusal(Cat(rule_.requests_per_minute, " requests a minute"), wait);
    }
    if (const absl::Duration wait = tokens_.Wait(now); wait > absl::ZeroDuration()) {
      return Refusal(Cat(rule_.tokens_per_minute, " tokens a minute"), wait);
    }
    requests_.Take(1);
    ++running_;
    return absl::OkStatus();
  }
  void End() {
    const std::lock_guard<std::mutex> lock(mutex_);
    --running_;
  }
  void Charge(std::int64_t tokens) {
    const std::lock_guard<std::mutex> lock(mutex_);
    tokens_.Wait(clock_.Uptime());
    tokens_.Take(tokens);
  }
  const std::string& name() const { return name_; }

 private:
  absl::Status Refusal(const std::string& limit, absl::Duration wait) const {
    return WithRejectionReason(
        RetryAfter(absl::ResourceExhaustedError(
                       Cat("the API key '", name_, "' has reached its limit of ", limit)),
                   wait),
        "key_limit");
  }

  const std::string name_;
  const Clock& clock_;
  std::mutex mutex_;
  ApiKeyRule rule_;
  Allowance requests_;
  Allowance tokens_;
  std::int32_t running_ = 0;
};

KeyUse& KeyUse::operator=(KeyUse&& other) noexcept {
  if (this != &other) {
    End();
    account_ = std::move(other.account_);
  }
  return *this;
}

void KeyUse::End() {
  if (account_ != nullptr) account_->End();
  account_.reset();
}

void KeyUse::Charge(std::int64_t tokens) const {
  if (account_ != nullptr) account_->Charge(tokens);
}

std::string_view KeyUse::name() const {
  return account_ != nullptr ? std::string_view(account_->name()) : std::string_view();
}

struct ApiKeys::State {
  struct Key {
    ApiKeyRule rule;
    std::shared_ptr<KeyAccount> account;
  };
  explicit State(const Clock& given) : clock(given) {}

  const Clock& clock;
  mutable std::mutex mutex;
  bool required = false;
  std::vector<Key> keys;
};

ApiKeys::ApiKeys() : state_(std::make_shared<State>(Clock::Real())) {}

absl::StatusOr<ApiKeys> ApiKeys::Create(const std::vector<std::string>& keys) {
  TANDEM_RETURN_IF_ERROR(CheckApiKeys(keys));
  std::vector<ApiKeyRule> rules;
  for (const std::string& key : keys) {
    ApiKeyRule rule;
    rule.name = Cat("key-", rules.size() + 1);
    rule.sha256 = HashApiKey(key);
    rules.push_back(std::move(rule));
  }
  return rules.empty() ? ApiKeys() : FromRules(rules);
}

ApiKeys ApiKeys::FromRules(const std::vector<ApiKeyRule>& rules, const Clock& clock) {
  ApiKeys result;
  result.state_ = std::make_shared<State>(clock);
  result.Replace(rules);
  return result;
}

absl::StatusOr<ApiKeys> ApiKeys::ReadFile(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<ApiKeyRule> rules, NeedKeyRules(path));
  return FromRules(rules);
}

void ApiKeys::Replace(const std::vector<ApiKeyRule>& rules) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  std::vector<State::Key> keys;
  for (const ApiKeyRule& rule : rules) {
    std::shared_ptr<KeyAccount> account;
    for (const State::Key& old : state_->keys) {
      if (old.rule.sha256 == rule.sha256 && old.rule.name == rule.name) account = old.account;
    }
    if (account == nullptr) {
      account = std::make_shared<KeyAccount>(rule, state_->clock);
    } else {
      account->SetRule(rule);
    }
    keys.push_back({rule, std::move(account)});
  }
  state_->keys = std::move(keys);
  state_->required = true;
}

bool ApiKeys::required() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->required;
}

// Null where no key is needed. Every key is compared to the end, in the same time.
absl::StatusOr<std::shared_ptr<KeyAccount>> ApiKeys::Find(std::string_view authorization,
                                                          KeyScope scope) const {
  if (!required()) return nullptr;
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size() ||
      !absl::EqualsIgnoreCase(AbslView(authorization.substr(0, kScheme.size())),
                              AbslView(kScheme))) {
    return absl::UnauthenticatedError(
        "an API key is needed: send it as \"Authorization: Bearer KEY\"");
  }
  const absl::string_view trimmed =
      absl::StripAsciiWhitespace(AbslView(authorization.substr(kScheme.size())));
  const auto hash = HashApiKey(std::string_view(trimmed.data(), trimmed.size()));
  const std::lock_guard<std::mutex> lock(state_->mutex);
  const State::Key* found = nullptr;
  for (const State::Key& key : state_->keys) {
    if (CRYPTO_memcmp(hash.data(), key.rule.sha256.data(), hash.size()) == 0) found = &key;
  }
  if (found == nullptr) return absl::UnauthenticatedError("incorrect API key provided");
  if (!found->rule.allows(scope)) {
    return absl::PermissionDeniedError(
        Cat("the API key '", found->rule.name, "' lacks the scope '", NameOf(scope), "'"));
  }
  return found->account;
}

absl::Status ApiKeys::Check(std::string_view authorization, KeyScope scope) const {
  return Find(authorization, scope).status();
}

absl::StatusOr<KeyUse> ApiKeys::Admit(std::string_view authorization, KeyScope scope) const {
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<KeyAccount> account, Find(authorization, scope));
  if (account == nullptr) return KeyUse();
  TANDEM_RETURN_IF_ERROR(account->Begin());
  return KeyUse(std::move(account));
}

}  // namespace tandem
