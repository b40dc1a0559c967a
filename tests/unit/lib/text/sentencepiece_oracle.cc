#include "tests/unit/lib/text/sentencepiece_oracle.h"

#include <sentencepiece_processor.h>

#include <utility>

namespace tandem {

struct SentencePieceOracle::Library {
  sentencepiece::SentencePieceProcessor processor;
};

std::unique_ptr<SentencePieceOracle> SentencePieceOracle::Load(std::string_view model,
                                                               std::string& error) {
  auto library = std::make_unique<Library>();
  const auto status = library->processor.LoadFromSerializedProto(model);
  if (!status.ok()) {
    error = status.ToString();
    return nullptr;
  }
  return std::unique_ptr<SentencePieceOracle>(new SentencePieceOracle(std::move(library)));
}

SentencePieceOracle::SentencePieceOracle(std::unique_ptr<Library> library)
    : library_(std::move(library)) {}

SentencePieceOracle::~SentencePieceOracle() = default;

bool SentencePieceOracle::Encode(std::string_view text, std::vector<int>& ids) const {
  return library_->processor.Encode(text, &ids).ok();
}

bool SentencePieceOracle::Decode(const std::vector<int>& ids, std::string& text) const {
  return library_->processor.Decode(ids, &text).ok();
}

}  // namespace tandem
