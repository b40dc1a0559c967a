// Key files: any bytes are an error that shows none of them, or rules that written and read again
// are the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/status_macros.h"
#include "lib/service/api_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto rules =
      tandem::ParseKeyRules(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!rules.ok()) {
    TANDEM_CHECK(rules.status().message().size() < 300);
    return 0;
  }
  std::string text;
  for (const tandem::ApiKeyRule& rule : *rules) text += tandem::FormatKeyRule(rule) + "\n";
  const auto again = tandem::ParseKeyRules(text);
  TANDEM_CHECK(again.ok() && again->size() == rules->size());
  for (std::size_t i = 0; i < rules->size(); ++i) {
    TANDEM_CHECK((*again)[i].sha256 == (*rules)[i].sha256);
    TANDEM_CHECK((*again)[i].name == (*rules)[i].name && (*again)[i].scopes == (*rules)[i].scopes);
  }
  return 0;
}
