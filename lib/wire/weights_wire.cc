#include "lib/wire/weights_wire.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "tandem/v1/loader.pb.h"

namespace tandem {

v1::RegionManifest ToProto(const RegionManifest& manifest) {
  v1::RegionManifest message;
  message.set_name(manifest.name);
  message.set_bytes(manifest.bytes);
  for (const TensorEntry& entry : manifest.tensors) {
    v1::TensorEntry& out = *message.add_tensors();
    out.set_name(TensorName(entry.id));
    out.set_rows(entry.shape.rows);
    out.set_cols(entry.shape.cols);
    out.set_format(std::string(WeightFormatName(entry.format)));
    out.set_value_offset(entry.value_offset);
    out.set_value_bytes(entry.value_bytes);
    out.set_scale_offset(entry.scale_offset);
    out.set_scale_bytes(entry.scale_bytes);
    out.set_checksum(entry.checksum);
  }
  for (const ByteSpan& window : manifest.windows) {
    v1::ByteSpan& out = *message.add_windows();
    out.set_offset(window.offset);
    out.set_bytes(window.bytes);
  }
  message.set_device(manifest.identity.device);
  message.set_inode(manifest.identity.inode);
  return message;
}

absl::StatusOr<RegionManifest> FromProto(const v1::RegionManifest& message,
                                         const ModelConfig& config) {
  RegionManifest manifest;
  manifest.name = message.name();
  manifest.bytes = message.bytes();
  const std::string where = absl::StrCat("region '", message.name(), "'");
  for (const v1::TensorEntry& in : message.tensors()) {
    TensorEntry entry;
    const std::optional<TensorId> id = ParseTensorName(in.name());
    if (!id.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": expected a tensor's name, found '", in.name(), "'"));
    }
    const absl::StatusOr<WeightFormat> format = ParseWeightFormat(in.format());
    if (!format.ok())
      return Annotate(format.status(), absl::StrCat(where, " tensor '", in.name(), "'"));
    entry.id = *id;
    entry.shape = {in.rows(), in.cols()};
    entry.format = *format;
    entry.value_offset = in.value_offset();
    entry.value_bytes = in.value_bytes();
    entry.scale_offset = in.scale_offset();
    entry.scale_bytes = in.scale_bytes();
    entry.checksum = in.checksum();
    manifest.tensors.push_back(entry);
  }
  for (const v1::ByteSpan& window : message.windows())
    manifest.windows.push_back({window.offset(), window.bytes()});
  manifest.identity = {message.device(), message.inode()};
  TANDEM_RETURN_IF_ERROR(ValidateManifest(manifest, config));
  return manifest;
}

}  // namespace tandem
