#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/vocabulary.h"

namespace tandem {

// Texts that tokenizers get wrong: random Unicode, broken UTF-8, long runs, spaces, special pieces,
// mixed scripts. The same seed gives the same texts.
class RandomText {
 public:
  // `vocabulary` must outlive the generator; `sample` is text to cut snippets from, not empty.
  RandomText(const Vocabulary& vocabulary, std::string sample, uint64_t seed)
      : vocabulary_(vocabulary), sample_(std::move(sample)), random_(seed) {}

  // The next text, mostly under 100 bytes, now and then some thousands.
  std::string Next();

  // Random token ids, byte pieces and control pieces often.
  std::vector<int32_t> NextIds();

 private:
  size_t Below(size_t limit) { return random_() % limit; }
  char32_t CodePoint();
  void AppendUnicode(std::string& out);
  void AppendBytes(std::string& out);
  void AppendRun(std::string& out);
  void AppendSpaces(std::string& out);
  void AppendPieces(std::string& out);
  void AppendSpecial(std::string& out);
  void AppendBroken(std::string& out);
  void AppendSnippet(std::string& out);

  const Vocabulary& vocabulary_;
  const std::string sample_;
  std::mt19937_64 random_;
};

}  // namespace tandem
