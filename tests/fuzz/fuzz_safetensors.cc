// Any bytes as a safetensors file, and as the files that sentence-transformers keeps beside one:
// the readers give an error or entries that keep their promises, and never crash.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "lib/base/status_macros.h"
#include "loader/read/safetensors.h"
#include "loader/read/sentence_modules.h"
#include "tests/fuzz/memory_file.h"

namespace {

void ReadModules(std::string_view text) {
  const auto modules = tandem::ParseSentenceModules(text);
  if (modules.ok()) {
    TANDEM_CHECK(modules->dense.empty() || modules->dense.size() == 2);
    for (const std::string& folder : modules->dense)
      TANDEM_CHECK(folder.find('/') == std::string::npos && folder != "..");
  }
  const auto dense = tandem::ParseDenseConfig(text);
  if (dense.ok()) TANDEM_CHECK(dense->in > 0 && dense->out > 0);
  for (const absl::Status& status :
       {modules.status(), dense.status(), tandem::CheckPoolingConfig(text, 768)}) {
    TANDEM_CHECK(status.message().find('\n') == absl::string_view::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ReadModules({reinterpret_cast<const char*>(data), size});
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
