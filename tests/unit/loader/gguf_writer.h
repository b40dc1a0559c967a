#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lib/model/config.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// Writes GGUF files for tests, part by part, so that each part can be left out, doubled or broken.
struct GgufBuilder {
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dims;  // dims[0] contiguous
    std::uint32_t type = 0;           // ggml's number
    std::string data;
    std::int64_t offset = -1;  // -1: where it comes to lie
  };

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<std::pair<std::string, std::string>> metadata;  // key, type and value as bytes
  std::vector<Tensor> tensors;
  std::int64_t claimed_tensors = -1;  // -1: as many as there are
  std::int64_t claimed_keys = -1;

  void Set(const std::string& key, std::string value);  // replaces or adds
  void Remove(const std::string& key);
  Tensor& Find(const std::string& name);
  std::string Bytes() const;
};

// Typed values for GgufBuilder::metadata.
std::string GgufU32(std::uint32_t v);
std::string GgufF32(float v);
std::string GgufBool(bool v);
std::string GgufString(const std::string& v);
std::string GgufStrings(const std::vector<std::string>& v);
std::string GgufFloats(const std::vector<float>& v);
std::string GgufInts(const std::vector<std::int32_t>& v);
std::string GgufBools(const std::vector<bool>& v);

// All metadata of a gemma3 file with this configuration and vocabulary, no tensors.
GgufBuilder GgufOf(const ModelConfig& config, const Vocabulary& vocabulary);

}  // namespace tandem
