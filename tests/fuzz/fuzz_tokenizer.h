#pragma once

// What both tokenizer targets do with a vocabulary that a reader accepted.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/text/chat_template.h"
#include "lib/text/detokenizer.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// Encodes and decodes `text` with the vocabulary: ids in range, the stream equal to the whole.
inline void UseVocabulary(Vocabulary vocabulary, std::string_view text) {
  TANDEM_CHECK(vocabulary.Validate().ok());  // readers hand out valid vocabularies only
  auto created = Tokenizer::Create(std::move(vocabulary));
  TANDEM_CHECK(created.ok());
  const std::shared_ptr<const Tokenizer> tokenizer = *std::move(created);
  for (const bool parse_special : {false, true}) {
    const std::vector<int32_t> ids = tokenizer->Encode(text, {true, parse_special});
    TANDEM_CHECK(tokenizer->ValidateIds(ids).ok());
    const auto limited = tokenizer->EncodeAtMost(text, ids.size(), {true, parse_special});
    TANDEM_CHECK(limited.ok() && *limited == ids);
    if (!ids.empty()) {
      TANDEM_CHECK(!tokenizer->EncodeAtMost(text, ids.size() - 1, {true, parse_special}).ok());
    }
    const auto whole = tokenizer->Decode(ids);
    TANDEM_CHECK(whole.ok());
    StreamingDetokenizer stream(tokenizer);
    std::string joined;
    for (const int32_t id : ids) joined += *stream.Append({id});
    TANDEM_CHECK(joined + stream.Flush() == *whole);
  }
  const std::vector<ChatMessage> messages = {{"user", std::string(text)}};
  const auto chat = EncodeGemmaChat(*tokenizer, messages);
  TANDEM_CHECK(!chat.ok() || tokenizer->ValidateIds(*chat).ok());
}

}  // namespace tandem
