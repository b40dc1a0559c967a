#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// Where the files of a model are, found from the one path that a person gives.
struct ModelFiles {
  enum class Format { kSafetensors, kGguf };
  Format format = Format::kSafetensors;
  // for people: the folder's or file's name, "org/model" out of a Hugging Face cache
  std::string name;
  std::string folder;                // of the weights
  std::vector<std::string> weights;  // full paths; the shards of an index in order of name
  std::string index;                 // model.safetensors.index.json when sharded, else empty
};

// `path`: a .gguf file (told by its magic), a .safetensors file, an index, a folder with
// model.safetensors, an index, or exactly one weight file, or a Hugging Face cache folder
// (`models--org--name`: the snapshot that refs/main names; `.../snapshots/<hash>`). NOT_FOUND or
// INVALID_ARGUMENT says what was looked for and what is there.
absl::StatusOr<ModelFiles> FindModelFiles(const std::string& path);

}  // namespace tandem
