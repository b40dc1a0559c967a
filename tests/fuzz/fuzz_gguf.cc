// Any bytes as a GGUF file: header, configuration, vocabulary, tensors and packing give an error or
// a model, and never crash.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/base/thread_pool.h"
#include "loader/pack/model_packer.h"
#include "loader/read/gguf.h"
#include "loader/read/gguf_model.h"
#include "loader/read/model_source.h"
#include "tests/fuzz/memory_file.h"

namespace {

// Every tensor whose type is known lies inside the file and can be read.
void ReadTensors(const tandem::InputFile& file, const tandem::GgufHeader& header) {
  for (const tandem::GgufTensor& tensor : header.tensors) {
    TANDEM_CHECK(tensor.offset + tensor.bytes <= file.size() || tensor.bytes == 0);
    const auto type = tandem::SourceTypeOfGgml(tensor.type);
    if (!type.has_value()) continue;
    std::vector<std::byte> raw(tensor.bytes);
    TANDEM_CHECK(file.ReadAt(tensor.offset, raw).ok());
    const tandem::BlockSize block = tandem::BlockSizeOf(*type);
    std::vector<float> values(tensor.bytes / static_cast<std::uint64_t>(block.bytes) *
                              static_cast<std::uint64_t>(block.elements));
    tandem::DequantizeSource(*type, raw, values);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const tandem::MemoryFile memory(data, size);
  const auto file = tandem::InputFile::Open(memory.path());
  TANDEM_CHECK(file.ok());
  const auto header = tandem::ReadGgufHeader(*file);
  if (!header.ok()) {
    TANDEM_CHECK(header.status().message().find('\n') == absl::string_view::npos);
    return 0;
  }
  ReadTensors(*file, *header);
  const auto source = tandem::ModelSource::Open(memory.path());
  if (!source.ok()) {
    TANDEM_CHECK(source.status().message().find('\n') == absl::string_view::npos);
    return 0;
  }
  TANDEM_CHECK(tandem::ValidateModelConfig((*source)->config()).ok());
  static tandem::ThreadPool* const pool = new tandem::ThreadPool(1);
  for (const tandem::QuantMode mode : {tandem::QuantMode::kAsIs, tandem::QuantMode::kInt4}) {
    const auto packer = tandem::ModelPacker::Create(**source, mode);
    if (packer.ok()) packer->Check(*pool, {}).IgnoreError();
  }
  return 0;
}
