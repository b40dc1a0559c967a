#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// What every door's embeddings share.

// InvalidArgument for an empty text, and for more than kMaxEmbeddings prompts.
absl::Status CheckEmbeddingPrompts(std::string_view field, const std::vector<Prompt>& prompts);

// Of length 1, unless all values are 0.
void ScaleToUnitLength(std::span<float> values);
// As many of the values as were asked for, and these of length 1 where that was.
void GrantWish(const EmbeddingWish& wish, std::vector<float>& values);
// "[0.5,-0.25]": the shortest texts that give the same float32 values.
std::string FloatsJson(std::span<const float> values);
// Base64 of the values, little endian.
std::string FloatsBase64(std::span<const float> values);

// Of an answer that is never a stream.
class EmbeddingFormat : public AnswerFormat {
 public:
  std::string Begin(const AnswerUsage& usage) final;
  std::string Next(const AnswerEvent& event) final;
  std::string End(const AnswerUsage& usage) final;
  std::string Fail(const ApiError& error) final;
};

}  // namespace tandem
