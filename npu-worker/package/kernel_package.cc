#include "npu-worker/package/kernel_package.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "boost/crc.hpp"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "nlohmann/json.hpp"
#include "npu-worker/kernels/attention_shape.h"
#include "npu-worker/kernels/rows_shape.h"

namespace tandem::npu {
namespace {

using Json = nlohmann::json;

// By their numbers.
constexpr std::string_view kKinds[] = {"product", "attention", "rows"};

// Reads fields of one object and keeps the first error.
class Fields {
 public:
  Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object_.is_object()) Fail("", "an object");
  }
  std::string Text(const char* key) {
    const auto found = Find(key);
    if (found != nullptr && found->is_string()) return found->get<std::string>();
    Fail(key, "a text");
    return "";
  }
  std::uint64_t Number(const char* key) {
    const auto found = Find(key);
    if (found != nullptr && found->is_number_unsigned()) return found->get<std::uint64_t>();
    Fail(key, "a number of 0 or more");
    return 0;
  }
  // A number that this program knows only one value of.
  void Exactly(const char* key, std::uint64_t expected) {
    const auto found = Find(key);
    if (found != nullptr && found->is_number_unsigned() && *found == expected) return;
    Fail(key, absl::StrCat(expected));
  }
  Fields Object(const char* key) {
    static const Json kNone;
    const auto found = Find(key);
    return Fields(found == nullptr ? kNone : *found, absl::StrCat(path_, key, "."));
  }
  const absl::Status& status() const { return status_; }

 private:
  const Json* Find(const char* key) const {
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }
  void Fail(const char* key, const std::string& expected) {
    if (!status_.ok()) return;
    const bool whole = *key == '\0';
    const Json* found = whole ? nullptr : Find(key);
    // Foreign text in a message: short, and on one line.
    const std::string shown =
        found == nullptr ? "nothing of that kind"
                         : found->dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 60);
    // The path of an object ends with the dot before its fields.
    const std::string where = !whole          ? absl::StrCat(path_, key)
                              : path_.empty() ? "top level"
                                              : path_.substr(0, path_.size() - 1);
    status_ =
        absl::InvalidArgumentError(absl::StrCat(where, ": expected ", expected, ", found ", shown));
  }

  const Json& object_;
  std::string path_;
  absl::Status status_;
};

bool IsPlainName(const std::string& name) {
  return !name.empty() && name.size() < 256 && name != "." && name != ".." &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

// Stands in reports and messages.
bool IsPlainText(const std::string& text) {
  return !text.empty() && text.size() <= 100 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// The place of `found` among `names`.
absl::StatusOr<std::size_t> Choose(std::string_view field, const std::string& found,
                                   std::span<const std::string_view> names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (found == names[i]) return i;
  }
  std::string expected(names[0]);
  for (std::size_t i = 1; i < names.size(); ++i)
    absl::StrAppend(&expected, i + 1 < names.size() ? ", " : " or ", AbslView(names[i]));
  return absl::InvalidArgumentError(absl::StrCat(AbslView(field), ": expected ", expected,
                                                 ", found '", found.substr(0, 60), "'"));
}

// What only a product's package has.
absl::Status ReadProduct(Fields* top, KernelPackage* package) {
  static constexpr std::string_view kWeights[] = {"int8", "int4"};
  const std::string weights = top->Text("weights");
  const std::uint64_t address = top->Number("parameter_address");
  TANDEM_RETURN_IF_ERROR(top->status());
  TANDEM_ASSIGN_OR_RETURN(const std::size_t form, Choose("weights", weights, kWeights));
  package->int4 = form == 1;
  if (address % 4 != 0 || address >= kCoreMemoryBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter_address: expected a multiple of 4 below ", kCoreMemoryBytes,
                     ", found ", address));
  }
  package->parameter_address = static_cast<std::uint32_t>(address);
  return absl::OkStatus();
}

// The sizes that the kernels were compiled with are this program's.
absl::Status CheckTile(KernelKind kind, Fields tile) {
  switch (kind) {
    case KernelKind::kProduct:
      tile.Exactly("rows", kTileRows);
      tile.Exactly("tokens", kTileTokens);
      tile.Exactly("columns", kTileColumns);
      break;
    case KernelKind::kAttention:
      tile.Exactly("values", kAttentionValues);
      break;
    case KernelKind::kRows:
      tile.Exactly("chunk", kRowChunk);
      tile.Exactly("chunks", kMostRowChunks);
      break;
  }
  return tile.status();
}

absl::StatusOr<KernelPackage> FromJson(const Json& json) {
  static constexpr std::string_view kGenerations[] = {"aie2", "aie2p"};
  KernelPackage package;
  Fields top(json, "");
  top.Exactly("format", 1);
  const std::string kind = top.Text("kind");
  const std::string generation = top.Text("generation");
  package.kernel = top.Text("kernel");
  TANDEM_RETURN_IF_ERROR(top.status());
  TANDEM_ASSIGN_OR_RETURN(const std::size_t which, Choose("kind", kind, kKinds));
  package.kind = static_cast<KernelKind>(which);
  TANDEM_ASSIGN_OR_RETURN(const std::size_t newer, Choose("generation", generation, kGenerations));
  package.array = newer == 1 ? kAie2pArray : kAie2Array;
  if (package.kind == KernelKind::kProduct) TANDEM_RETURN_IF_ERROR(ReadProduct(&top, &package));
  Fields array = top.Object("array");
  array.Exactly("rows", package.array.rows);
  array.Exactly("columns", package.array.columns);
  TANDEM_RETURN_IF_ERROR(array.status());
  TANDEM_RETURN_IF_ERROR(CheckTile(package.kind, top.Object("tile")));
  Fields xclbin = top.Object("xclbin");
  package.xclbin_file = xclbin.Text("file");
  package.xclbin_bytes = xclbin.Number("bytes");
  const std::uint64_t crc = xclbin.Number("crc32");
  TANDEM_RETURN_IF_ERROR(xclbin.status());
  if (!IsPlainName(package.xclbin_file) || crc > 0xffffffffU) {
    return absl::InvalidArgumentError(
        "xclbin: expected the name of a file in the package's folder and a crc32 of 32 bits");
  }
  package.xclbin_crc32 = static_cast<std::uint32_t>(crc);
  Fields toolchain = top.Object("toolchain");
  package.mlir_aie = toolchain.Text("mlir_aie");
  package.peano = toolchain.Text("peano");
  TANDEM_RETURN_IF_ERROR(toolchain.status());
  for (const std::string* text : {&package.kernel, &package.mlir_aie, &package.peano}) {
    if (IsPlainText(*text)) continue;
    return absl::InvalidArgumentError(
        "kernel, toolchain: expected 1 to 100 printable characters of ASCII");
  }
  return package;
}

// What somebody put there may be anything: a pipe would never end to open, a device to read.
absl::StatusOr<std::vector<char>> ReadWhole(const std::string& path, std::uint64_t most) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid())
    return absl::NotFoundError(absl::StrCat(path, ": cannot be opened: ", std::strerror(errno)));
  struct stat info {};
  if (fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a file"));
  std::vector<char> bytes;
  char part[65536];
  while (true) {
    const ssize_t got = read(file.get(), part, sizeof(part));
    if (got < 0) return absl::DataLossError(absl::StrCat(path, ": ", std::strerror(errno)));
    if (got == 0) return bytes;
    bytes.insert(bytes.end(), part, part + got);
    if (bytes.size() > most) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": expected at most ", most, " bytes"));
    }
  }
}

}  // namespace

std::string_view KernelKindName(KernelKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }

absl::StatusOr<KernelPackage> ParseKernelPackage(std::string_view text, std::string_view name) {
  // Nesting is bounded before the parser recurses; the format has three levels.
  const auto limited = [](int depth, Json::parse_event_t, Json&) { return depth <= 4; };
  const Json json = Json::parse(text.begin(), text.end(), limited, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(AbslView(name), ": expected JSON"));
  }
  absl::StatusOr<KernelPackage> package = FromJson(json);
  if (!package.ok()) return Annotate(package.status(), name);
  return package;
}

absl::Status CheckXclbin(const KernelPackage& package, std::span<const std::byte> bytes) {
  boost::crc_32_type crc;
  crc.process_bytes(bytes.data(), bytes.size());
  if (bytes.size() == package.xclbin_bytes && crc.checksum() == package.xclbin_crc32) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(package.xclbin_file, ": expected ", package.xclbin_bytes, " bytes with crc32 ",
                   package.xclbin_crc32, ", found ", bytes.size(), " bytes with ", crc.checksum()));
}

absl::StatusOr<KernelPackage> LoadKernelPackage(const std::string& folder) {
  constexpr std::uint64_t kMostDescription = 64 << 10;
  constexpr std::uint64_t kMostXclbin = 64 << 20;
  const std::string path = folder + "/package.json";
  TANDEM_ASSIGN_OR_RETURN(const std::vector<char> text, ReadWhole(path, kMostDescription));
  TANDEM_ASSIGN_OR_RETURN(KernelPackage package,
                          ParseKernelPackage({text.data(), text.size()}, path));
  package.xclbin_file = folder + "/" + package.xclbin_file;
  TANDEM_ASSIGN_OR_RETURN(package.xclbin, ReadWhole(package.xclbin_file, kMostXclbin));
  TANDEM_RETURN_IF_ERROR(CheckXclbin(package, std::as_bytes(std::span(package.xclbin))));
  return package;
}

}  // namespace tandem::npu
