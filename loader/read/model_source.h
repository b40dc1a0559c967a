#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/tensors.h"
#include "lib/text/vocabulary.h"
#include "loader/read/input_file.h"
#include "loader/read/model_path.h"
#include "loader/read/source_type.h"

namespace tandem {

// One tensor as it lies in a file.
struct SourceTensor {
  TensorId id;
  TensorShape shape;
  SourceType type = SourceType::kF32;
  std::string name;          // as the file spells it
  std::size_t file = 0;      // index of ModelSource's files
  std::uint64_t offset = 0;  // in that file
};

// An opened model: everything but the weights themselves is read and checked. Immutable after Open,
// any thread.
class ModelSource {
 public:
  // Opens a path as FindModelFiles finds it, reads configuration, vocabulary and headers, and
  // checks every tensor's presence, shape and type against the configuration. An error is one line
  // with the file, the tensor or key, what was expected and what was found.
  static absl::StatusOr<std::unique_ptr<const ModelSource>> Open(const std::string& path);

  const ModelConfig& config() const { return config_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  const std::string& chat_template() const {
    return chat_template_;
  }                                             // as found in the files; "" when there is none
  std::vector<std::string> file_names() const;  // base names of the weight files
  const std::string& main_file() const {
    return files_.weights.front();
  }  // path of the first weight file, for messages
  std::uint64_t fingerprint() const {
    return fingerprint_;
  }  // changes with names, sizes, times and headers of the files

  // In the order of AllTensors(config()).
  const std::vector<SourceTensor>& tensors() const { return tensors_; }
  const SourceTensor& Find(TensorId id) const;  // one of AllTensors(config())
  const std::string& PathOf(const SourceTensor& tensor) const {
    return inputs_[tensor.file].path();
  }
  // What has to be added to a vector's values: 1 where the file has w and the region wants 1 + w.
  float vector_offset() const { return vector_offset_; }

  // Reads rows [first_row, first_row + rows) as they lie; `out` is rows * RowBytesOf(type, cols)
  // long. DATA_LOSS when the file has become shorter.
  absl::Status ReadRows(const SourceTensor& tensor, std::int64_t first_row, std::int64_t rows,
                        std::span<std::byte> out) const;

 private:
  ModelSource() = default;
  absl::Status OpenSafetensors();
  absl::Status OpenGguf();
  absl::Status ReadSideFiles();
  absl::Status ReadSentenceModules();
  absl::Status ReadDense(const std::string& folder, std::int32_t in, std::int32_t* out);
  absl::StatusOr<SourceTensor> FindDense(std::size_t file, TensorKind kind) const;
  absl::Status CheckShards(const std::vector<std::vector<std::string>>& names_by_file) const;
  absl::Status TakeTensors(std::vector<SourceTensor> found);
  absl::Status CheckVocabulary();

  ModelFiles files_;
  // The weights' files; behind them those of an encoder's dense matrices.
  std::vector<InputFile> inputs_;
  ModelConfig config_;
  Vocabulary vocabulary_;
  std::string chat_template_;
  std::vector<SourceTensor> tensors_;
  float vector_offset_ = 0;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace tandem
