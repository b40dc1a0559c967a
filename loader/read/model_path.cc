#include "loader/read/model_path.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "loader/read/gguf.h"
#include "loader/read/input_file.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

namespace fs = std::filesystem;

constexpr char kIndexName[] = "model.safetensors.index.json";
constexpr char kSingleName[] = "model.safetensors";
constexpr char kCachePrefix[] = "models--";
constexpr std::uint64_t kMaxIndexBytes = 64 << 20;

bool IsFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// "google/gemma-3-1b-it" from "models--google--gemma-3-1b-it".
std::string CacheModelName(const std::string& folder) {
  return absl::StrReplaceAll(folder.substr(sizeof(kCachePrefix) - 1), {{"--", "/"}});
}

std::string FolderModelName(const fs::path& folder) {
  std::error_code error;
  const fs::path whole = fs::absolute(folder, error).lexically_normal();
  fs::path named = whole.has_filename() ? whole : whole.parent_path();
  if (named.parent_path().filename() == "snapshots") {
    const std::string cache = named.parent_path().parent_path().filename().string();
    if (cache.starts_with(kCachePrefix)) return CacheModelName(cache);
  }
  const std::string name = named.filename().string();
  return name.empty() ? "model" : name;
}

absl::StatusOr<std::vector<std::string>> EntriesOf(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return absl::NotFoundError(absl::StrCat(folder.string(), ": ", error.message()));
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<fs::path> SnapshotOf(const fs::path& cache) {
  const fs::path main = cache / "refs" / "main";
  const fs::path snapshots = cache / "snapshots";
  if (FileExists(main.string())) {
    TANDEM_ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(main.string()));
    TANDEM_ASSIGN_OR_RETURN(std::string hash, file.ReadAll(256));
    while (!hash.empty() && (hash.back() == '\n' || hash.back() == ' ' || hash.back() == '\r'))
      hash.pop_back();
    const bool plain =
        !hash.empty() && hash.find('/') == std::string::npos && hash != "." && hash != "..";
    if (!plain || !IsFolder(snapshots / hash)) {
      return absl::NotFoundError(absl::StrCat(main.string(), ": expected the name of a folder in ",
                                              snapshots.string(), ", found ", QuotedName(hash)));
    }
    return snapshots / hash;
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> names, EntriesOf(snapshots));
  if (names.size() != 1) {
    return absl::NotFoundError(
        absl::StrCat(snapshots.string(), ": expected one snapshot (there is no refs/main), found ",
                     names.size()));
  }
  return snapshots / names[0];
}

// The shards that an index names, each once.
absl::StatusOr<ModelFiles> FromIndex(const fs::path& index) {
  ModelFiles found;
  found.index = index.string();
  found.folder = index.parent_path().string();
  found.name = FolderModelName(index.parent_path());
  TANDEM_ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(found.index));
  TANDEM_ASSIGN_OR_RETURN(const std::string text, file.ReadAll(kMaxIndexBytes));
  const absl::StatusOr<nlohmann::json> parsed = ParseJson(text);
  if (!parsed.ok()) return Annotate(parsed.status(), found.index);
  const nlohmann::json& root = *parsed;
  const auto map = root.is_object() ? root.find("weight_map") : root.end();
  if (!root.is_object() || map == root.end() || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(found.index, ": expected a JSON object with a 'weight_map', found none"));
  }
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat(found.index, ": tensor ", QuotedName(tensor),
                       ": expected the name of a file beside the index, found ", QuotedName(name)));
    }
    shards.insert(name);
  }
  for (const std::string& name : shards) {
    const std::string path = (index.parent_path() / name).string();
    if (!FileExists(path))
      return absl::NotFoundError(
          absl::StrCat(path, ": expected a shard that ", kIndexName, " names, found no file"));
    found.weights.push_back(path);
  }
  return found;
}

ModelFiles SingleFile(const fs::path& path, ModelFiles::Format format) {
  ModelFiles found;
  found.format = format;
  found.folder = path.has_parent_path() ? path.parent_path().string() : ".";
  const bool generic = path.filename() == kSingleName;
  found.name = generic ? FolderModelName(found.folder) : path.stem().string();
  found.weights = {path.string()};
  return found;
}

bool IsShardName(std::string_view name) { return name.find("-of-") != std::string_view::npos; }

absl::StatusOr<ModelFiles> FromFile(const fs::path& path) {
  if (path.filename().string().ends_with(".index.json")) return FromIndex(path);
  TANDEM_ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(path.string()));
  if (HasGgufMagic(file)) return SingleFile(path, ModelFiles::Format::kGguf);
  if (path.extension() == ".safetensors") {
    const fs::path index = path.parent_path() / kIndexName;
    if (IsShardName(path.filename().string()) && FileExists(index.string()))
      return FromIndex(index);
    return SingleFile(path, ModelFiles::Format::kSafetensors);
  }
  std::string magic(std::min<std::uint64_t>(file.size(), 4), '\0');
  TANDEM_RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(magic))));
  return absl::InvalidArgumentError(
      absl::StrCat(path.string(), ": magic: expected 'GGUF' or a file named .safetensors, found ",
                   QuotedName(magic)));
}

absl::StatusOr<ModelFiles> FromFolder(const fs::path& folder) {
  if (FileExists((folder / kIndexName).string())) return FromIndex(folder / kIndexName);
  if (FileExists((folder / kSingleName).string())) {
    ModelFiles found = SingleFile(folder / kSingleName, ModelFiles::Format::kSafetensors);
    found.name = FolderModelName(folder);
    return found;
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> names, EntriesOf(folder));
  std::vector<std::string> candidates;
  for (const std::string& name : names) {
    // mmproj files hold the vision tower alone.
    const bool weights =
        name.ends_with(".gguf") ? !name.starts_with("mmproj") : name.ends_with(".safetensors");
    if (weights) candidates.push_back(name);
  }
  if (candidates.size() == 1) return FromFile(folder / candidates[0]);
  if (candidates.empty()) {
    return absl::NotFoundError(absl::StrCat(folder.string(), ": expected ", kSingleName, ", ",
                                            kIndexName, " or one .gguf file, found none among ",
                                            names.size(), " entries"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      folder.string(), ": expected one weight file or an index, found ", candidates.size(),
      " weight files (", candidates[0], ", ", candidates[1], "...): name one of them"));
}

}  // namespace

absl::StatusOr<ModelFiles> FindModelFiles(const std::string& path) {
  if (path.empty())
    return absl::InvalidArgumentError("model path: expected a file or folder, found an empty path");
  if (!FileExists(path))
    return absl::NotFoundError(
        absl::StrCat(path, ": expected a model file or folder, found nothing there"));
  fs::path where(path);
  if (!IsFolder(where)) return FromFile(where);
  if (FileExists((where / "snapshots").string()) && !FileExists((where / "config.json").string())) {
    std::error_code error;
    const fs::path whole = fs::absolute(where, error).lexically_normal();
    const std::string cache =
        (whole.has_filename() ? whole : whole.parent_path()).filename().string();
    TANDEM_ASSIGN_OR_RETURN(where, SnapshotOf(where));
    TANDEM_ASSIGN_OR_RETURN(ModelFiles found, FromFolder(where));
    if (cache.starts_with(kCachePrefix)) found.name = CacheModelName(cache);
    return found;
  }
  return FromFolder(where);
}

}  // namespace tandem
