#include "loader/read/safetensors.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;

absl::Status Wrong(std::string_view name, std::string_view what, std::string_view expected,
                   const std::string& found) {
  return absl::InvalidArgumentError(
      Cat("tensor ", QuotedName(name), ": ", what, ": expected ", expected, ", found ", found));
}

std::string Shown(const Json& value) {
  return QuotedName(value.dump(-1, ' ', true, Json::error_handler_t::replace));
}

// Bytes of an element of a dtype of the format, or nothing for one that we do not know.
std::optional<std::uint64_t> BytesOfDtype(std::string_view dtype) {
  static constexpr std::pair<std::string_view, std::uint64_t> kSizes[] = {
      {"F64", 8}, {"I64", 8}, {"U64", 8},     {"F32", 4},     {"I32", 4},
      {"U32", 4}, {"F16", 2}, {"BF16", 2},    {"I16", 2},     {"U16", 2},
      {"I8", 1},  {"U8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"BOOL", 1}};
  for (const auto& [name, bytes] : kSizes) {
    if (name == dtype) return bytes;
  }
  return std::nullopt;
}

absl::Status ReadShape(const Json& object, SafetensorsEntry& entry) {
  const auto shape = object.find("shape");
  if (shape == object.end() || !shape->is_array() || shape->size() > 8) {
    return Wrong(entry.name, "shape", "a list of at most 8 sizes",
                 shape == object.end() ? "nothing" : Shown(*shape));
  }
  for (const Json& size : *shape) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() > (std::uint64_t{1} << 40)) {
      return Wrong(entry.name, "shape", "sizes of 0 to 2^40", Shown(size));
    }
    entry.shape.push_back(size.get<std::int64_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadOffsets(const Json& object, std::uint64_t data_start, std::uint64_t file_size,
                         SafetensorsEntry& entry) {
  const auto offsets = object.find("data_offsets");
  if (offsets == object.end() || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
    return Wrong(entry.name, "data_offsets", "two offsets",
                 offsets == object.end() ? "nothing" : Shown(*offsets));
  }
  const auto begin = (*offsets)[0].get<std::uint64_t>();
  const auto end = (*offsets)[1].get<std::uint64_t>();
  const std::uint64_t data_bytes = file_size - data_start;
  if (begin > end || end > data_bytes) {
    return Wrong(entry.name, "data_offsets",
                 Cat("a range inside the file's ", data_bytes, " bytes of data"),
                 Cat("[", begin, ", ", end, ")"));
  }
  entry.offset = data_start + begin;
  entry.bytes = end - begin;
  return absl::OkStatus();
}

absl::Status CheckSize(const SafetensorsEntry& entry) {
  const std::optional<std::uint64_t> element = BytesOfDtype(entry.dtype);
  if (!element.has_value()) return absl::OkStatus();  // refused later, where the tensor is needed
  std::uint64_t bytes = *element;
  for (const std::int64_t size : entry.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) {
      return Wrong(entry.name, "shape", "a size under 2^64 bytes", "more");
    }
  }
  if (bytes == entry.bytes) return absl::OkStatus();
  return Wrong(entry.name, "data_offsets", Cat(bytes, " bytes for its dtype and shape"),
               absl::StrCat(entry.bytes));
}

absl::StatusOr<SafetensorsEntry> ReadEntry(const std::string& name, const Json& object,
                                           std::uint64_t data_start, std::uint64_t file_size) {
  SafetensorsEntry entry;
  entry.name = name;
  if (!object.is_object()) return Wrong(name, "entry", "an object", Shown(object));
  const auto dtype = object.find("dtype");
  if (dtype == object.end() || !dtype->is_string()) {
    return Wrong(name, "dtype", "a string", dtype == object.end() ? "nothing" : Shown(*dtype));
  }
  entry.dtype = dtype->get<std::string>();
  TANDEM_RETURN_IF_ERROR(ReadShape(object, entry));
  TANDEM_RETURN_IF_ERROR(ReadOffsets(object, data_start, file_size, entry));
  TANDEM_RETURN_IF_ERROR(CheckSize(entry));
  return entry;
}

// Parses, and finds names that stand twice: the DOM would keep the last one silently.
absl::StatusOr<Json> ParseUnique(std::string_view text) {
  std::set<std::string> names;
  std::string twice;
  bool deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 8) deep = true;
    if (event == Json::parse_event_t::key && depth == 1 &&
        !names.insert(parsed.get<std::string>()).second) {
      twice = parsed.get<std::string>();
    }
    return depth <= 8;
  };
  Json root = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (deep)
    return absl::InvalidArgumentError("header: expected at most 8 levels of JSON, found more");
  if (!twice.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", QuotedName(twice), ": expected once, found twice"));
  if (root.is_discarded() || !root.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat("header: expected a JSON object, found ",
                                                   text.size(), " bytes that are none"));
  }
  return root;
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view json,
                                                                     std::uint64_t data_start,
                                                                     std::uint64_t file_size) {
  TANDEM_CHECK(data_start <= file_size);
  TANDEM_ASSIGN_OR_RETURN(const Json root, ParseUnique(json));
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, object] : root.items()) {
    if (name == "__metadata__") continue;
    TANDEM_ASSIGN_OR_RETURN(SafetensorsEntry entry, ReadEntry(name, object, data_start, file_size));
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  for (std::size_t i = 1; i < entries.size(); ++i) {
    const std::uint64_t end = entries[i - 1].offset + entries[i - 1].bytes;
    if (entries[i].offset < end) {
      return Wrong(
          entries[i].name, "data_offsets",
          Cat("a start after ", QuotedName(entries[i - 1].name), " ends at ", end - data_start),
          absl::StrCat(entries[i].offset - data_start));
    }
  }
  return entries;
}

absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const InputFile& file) {
  std::array<unsigned char, kLengthBytes> raw{};
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": header: expected at least ",
                                                   kLengthBytes, " bytes, found ", file.size()));
  }
  TANDEM_RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(raw))));
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | raw[i];
  const std::uint64_t most = std::min(file.size() - kLengthBytes, kMaxSafetensorsHeader);
  if (length < 2 || length > most) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": header length: expected 2 to ",
                                                   most, " (the file has ", file.size(),
                                                   " bytes), found ", length));
  }
  std::string json(length, '\0');
  TANDEM_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(json))));
  absl::StatusOr<std::vector<SafetensorsEntry>> entries =
      ParseSafetensorsHeader(json, kLengthBytes + length, file.size());
  if (!entries.ok()) return Annotate(entries.status(), file.path());
  return entries;
}

std::string CanonicalTensorName(std::string_view name) {
  constexpr std::string_view kOuter = "language_model.";
  constexpr std::string_view kInner = "model.language_model.";
  if (name.starts_with(kInner)) return Cat("model.", name.substr(kInner.size()));
  if (name.starts_with(kOuter)) return std::string(name.substr(kOuter.size()));
  for (const std::string_view bare : {"embed_tokens.", "layers.", "norm."})
    if (name.starts_with(bare)) return Cat("model.", name);
  return std::string(name);
}

bool IsUnusedTensor(std::string_view name) {
  for (const std::string_view prefix : {"vision_tower.", "multi_modal_projector.",
                                        "model.vision_tower.", "model.multi_modal_projector."}) {
    if (name.starts_with(prefix)) return true;
  }
  return name == "lm_head.weight";
}

}  // namespace tandem
