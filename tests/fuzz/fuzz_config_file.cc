// Any bytes as a configuration file: an error or problems of one line each, or settings that can be
// handed on and read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/status_macros.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/config_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tandem::ClusterSettings settings;
  tandem::FlagList known;
  tandem::AddClusterFlags(&known, &settings);
  const auto file =
      tandem::ParseConfigFile({reinterpret_cast<const char*>(data), size}, "tandem.yaml", &known);
  if (!file.ok()) {
    TANDEM_CHECK(file.status().message().find('\n') == absl::string_view::npos);
    return 0;
  }
  for (const std::string& problem : file->problems)
    TANDEM_CHECK(problem.starts_with("tandem.yaml:") && problem.find('\n') == std::string::npos);
  tandem::ClusterSettings again;
  tandem::FlagList other;
  tandem::AddClusterFlags(&other, &again);
  for (const tandem::Flag& flag : known.flags()) {
    if (flag.show() != flag.initial) TANDEM_CHECK(other.Set(flag.name, flag.show(), "again").ok());
  }
  TANDEM_CHECK(known.Changed() == other.Changed());
  return 0;
}
