#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "npu-worker/kernels/tile_shape.h"

namespace tandem::npu {

// The designs: npu-worker/kernels/designs.
enum class KernelKind : std::uint8_t { kProduct, kAttention, kRows };
std::string_view KernelKindName(KernelKind kind);

// What tools/tandem_npu_kernels.py builds: a folder with package.json and an xclbin, one design for
// one generation of the array, the product's for one form of weights. Instructions are not in it:
// they are written for each shape (npu-worker/product, attention, rows). package.json:
//   {"format": 1, "kind": "product", "attention" or "rows", "generation": "aie2" or "aie2p",
//    "kernel": name in the xclbin, "array": {"rows": 4, "columns": 4}, "tile": {..},
//    "xclbin": {"file": name in the folder, "bytes": size, "crc32": checksum},
//    "toolchain": {"mlir_aie": version, "peano": version}}
// product:   "weights": "int8" or "int4", "parameter_address": bytes,
//            "tile": {"rows": 64, "tokens": 64, "columns": 128}
// attention: "tile": {"values": 4096}
// rows:      "tile": {"chunk": 1024, "chunks": 6}
struct KernelPackage {
  KernelKind kind = KernelKind::kProduct;
  ArrayShape array;
  std::string kernel;
  // Of a product; else they stay as they are.
  bool int4 = false;
  std::uint32_t parameter_address = 0;  // of the run-time parameter, in a core's memory
  std::string xclbin_file;              // a plain name; LoadKernelPackage makes it a path
  // What LoadKernelPackage read and checked: the file may be another one by now.
  std::vector<char> xclbin;
  std::uint64_t xclbin_bytes = 0;
  std::uint32_t xclbin_crc32 = 0;
  std::string mlir_aie;
  std::string peano;
};

// `text` is any bytes; `name` stands in messages. INVALID_ARGUMENT: not JSON, a field that is
// missing or of the wrong kind, another format, tile or array than this program is built for, a
// file name that leaves the folder.
absl::StatusOr<KernelPackage> ParseKernelPackage(std::string_view text, std::string_view name);

// INVALID_ARGUMENT when the bytes are not those that the package describes.
absl::Status CheckXclbin(const KernelPackage& package, std::span<const std::byte> bytes);

// Reads folder/package.json and checks the xclbin beside it. NOT_FOUND: no package there.
absl::StatusOr<KernelPackage> LoadKernelPackage(const std::string& folder);

}  // namespace tandem::npu
