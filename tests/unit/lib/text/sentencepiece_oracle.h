#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

// libsentencepiece behind standard types alone: its header does not compile beside Abseil's, and it
// may be linked only into programs without protobuf and gRPC.
class SentencePieceOracle {
 public:
  // `model`: the bytes of a tokenizer.model. Null, with the reason in `error`, when the library
  // refuses it.
  static std::unique_ptr<SentencePieceOracle> Load(std::string_view model, std::string& error);
  ~SentencePieceOracle();

  // False when the library returns an error.
  bool Encode(std::string_view text, std::vector<int>& ids) const;
  bool Decode(const std::vector<int>& ids, std::string& text) const;

 private:
  struct Library;
  explicit SentencePieceOracle(std::unique_ptr<Library> library);

  std::unique_ptr<Library> library_;
};

}  // namespace tandem
