// Any bytes as a safetensors file: the reader gives an error or entries that keep its promises, and
// never crashes.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "lib/base/status_macros.h"
#include "loader/read/safetensors.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const tandem::MemoryFile memory(data, size);
  const auto file = tandem::InputFile::Open(memory.path());
  TANDEM_CHECK(file.ok());
  const auto entries = tandem::ReadSafetensorsHeader(*file);
  if (!entries.ok()) {
    const std::string text(entries.status().message());
    TANDEM_CHECK(text.find('\n') == std::string::npos && text.starts_with(memory.path()));
    return 0;
  }
  std::uint64_t end = 8;
  std::set<std::string> names;
  for (const tandem::SafetensorsEntry& entry : *entries) {
    TANDEM_CHECK(entry.offset >= end && entry.offset <= size && entry.bytes <= size - entry.offset);
    TANDEM_CHECK(names.insert(entry.name).second);
    end = entry.offset + entry.bytes;
    tandem::IsUnusedTensor(tandem::CanonicalTensorName(entry.name));
  }
  return 0;
}
