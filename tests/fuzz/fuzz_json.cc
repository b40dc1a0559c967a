// ParseJson: any bytes give a value that can be written, and read back the same, or an error of one
// line.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "lib/base/json.h"
#include "lib/base/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = tandem::ParseJson({reinterpret_cast<const char*>(data), size});
  if (!json.ok()) {
    TANDEM_CHECK(json.status().message().find('\n') == absl::string_view::npos);
    return 0;
  }
  const std::string text = json->dump();
  const auto again = tandem::ParseJson(text);
  TANDEM_CHECK(again.ok() && again->dump() == text);
  return 0;
}
