#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "loader/read/input_file.h"

namespace tandem {

// The safetensors format: 8 bytes little-endian header length N, N bytes of JSON
// {"name": {"dtype": "BF16", "shape": [r, c], "data_offsets": [begin, end]}, "__metadata__":
// {...}}, then the data.

struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;  // the format's own limit

// Parses the JSON header of a file of `file_size` bytes whose data starts at `data_start`. Checks
// what does not need the model: every range inside the file and no two overlapping, no name twice,
// the size what dtype and shape say (known dtypes). Errors name the tensor, not the file. In the
// order of offsets.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view json,
                                                                     std::uint64_t data_start,
                                                                     std::uint64_t file_size);

// Reads and parses the header of a file; errors begin with its path.
absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const InputFile& file);

// "model.layers.0..." for the spellings "language_model.model.layers.0..." and
// "model.language_model.layers.0..." of multimodal checkpoints and "layers.0..." of encoders; other
// names as they are.
std::string CanonicalTensorName(std::string_view name);

// Tensors of a checkpoint that the text model does not use: the vision tower, its projector, and a
// copy of the tied head.
bool IsUnusedTensor(std::string_view canonical_name);

}  // namespace tandem
