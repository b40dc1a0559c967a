#include "gateway/ingress/answer/embeddings.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <system_error>

#include "absl/strings/escaping.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {

absl::Status CheckEmbeddingPrompts(std::string_view field, const std::vector<Prompt>& prompts) {
  if (prompts.size() > kMaxEmbeddings) {
    return InvalidField(field, Cat("'", field, "': expected at most ", kMaxEmbeddings,
                                   " inputs, found ", prompts.size()));
  }
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const std::string* text = std::get_if<std::string>(&prompts[i]);
    if (text == nullptr || !text->empty()) continue;
    return InvalidField(field, Cat("'", field, "': input ", i, " is an empty text"));
  }
  return absl::OkStatus();
}

void ScaleToUnitLength(std::span<float> values) {
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  if (squares == 0) return;
  const double scale = 1 / std::sqrt(squares);
  for (float& value : values) value = static_cast<float>(value * scale);
}

void GrantWish(const EmbeddingWish& wish, std::vector<float>& values) {
  if (wish.dimensions.has_value())
    values.resize(std::min(values.size(), static_cast<std::size_t>(*wish.dimensions)));
  if (wish.unit_length) ScaleToUnitLength(values);
}

std::string FloatsJson(std::span<const float> values) {
  std::string text = "[";
  std::array<char, 32> number{};
  for (const float value : values) {
    const auto end = std::to_chars(number.data(), number.data() + number.size(), value);
    TANDEM_CHECK(end.ec == std::errc());
    if (text.size() > 1) text.push_back(',');
    text.append(number.data(), end.ptr);
  }
  text.push_back(']');
  return text;
}

std::string FloatsBase64(std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little);
  std::string text;
  absl::Base64Escape({reinterpret_cast<const char*>(values.data()), values.size_bytes()}, &text);
  return text;
}

std::string EmbeddingFormat::Begin(const AnswerUsage&) { TANDEM_CHECK(false); }
std::string EmbeddingFormat::Next(const AnswerEvent&) { TANDEM_CHECK(false); }
std::string EmbeddingFormat::End(const AnswerUsage&) { TANDEM_CHECK(false); }
std::string EmbeddingFormat::Fail(const ApiError&) { TANDEM_CHECK(false); }

}  // namespace tandem
