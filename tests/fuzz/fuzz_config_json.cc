// Any bytes as a config.json: an error of one line or a configuration that validates.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "lib/base/status_macros.h"
#include "lib/model/config.h"
#include "lib/model/tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config =
      tandem::ParseConfigJson({reinterpret_cast<const char*>(data), size}, "config.json");
  if (!config.ok()) {
    TANDEM_CHECK(config.status().message().find('\n') == absl::string_view::npos);
    return 0;
  }
  TANDEM_CHECK(tandem::ValidateModelConfig(*config).ok());
  for (const tandem::TensorId id : tandem::AllTensors(*config)) {
    const tandem::TensorShape shape = tandem::ShapeOf(*config, id.kind);
    TANDEM_CHECK(shape.rows > 0 && shape.cols > 0);
  }
  return 0;
}
