// What a caller asks of the sampler, any numbers: an error that names a field, or parameters that
// the sampler takes.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/sampling_rules.h"
#include "lib/base/status_macros.h"

namespace {

// Takes values off the input's front; zeros after its end.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  template <typename T>
  T Take() {
    T value{};
    const std::size_t count = size_ < sizeof(T) ? size_ : sizeof(T);
    if (count > 0) std::memcpy(&value, data_, count);
    data_ += count;
    size_ -= count;
    return value;
  }
  template <typename T>
  std::optional<T> Maybe() {
    if (Take<std::uint8_t>() % 2 == 0) return std::nullopt;
    return Take<T>();
  }
  bool empty() const { return size_ == 0; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  tandem::SamplingWishes wishes;
  wishes.temperature = input.Maybe<double>();
  wishes.top_p = input.Maybe<double>();
  wishes.top_k = input.Maybe<std::int64_t>();
  wishes.min_p = input.Maybe<double>();
  wishes.frequency_penalty = input.Maybe<double>();
  wishes.presence_penalty = input.Maybe<double>();
  while (!input.empty()) {
    const std::int64_t token = input.Take<std::int32_t>();
    wishes.logit_bias.emplace_back(token, input.Take<float>());
  }
  const auto sampling = tandem::CheckedSampling(wishes);
  if (!sampling.ok()) {
    TANDEM_CHECK(!tandem::ToApiError(sampling.status()).param.empty());
    return 0;
  }
  TANDEM_CHECK(sampling->logit_bias.size() <= tandem::kMaxLogitBias);
  TANDEM_CHECK(tandem::ValidateSamplingParams(*sampling, INT32_MAX).ok() ||
               sampling->logit_bias.back().first == INT32_MAX);
  return 0;
}
