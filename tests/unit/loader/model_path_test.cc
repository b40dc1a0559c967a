#include "loader/read/model_path.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/loader/test_files.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& path) {
  return std::string(FindModelFiles(path).status().message());
}

TEST(FindModelFiles, SingleFilesAndFolders) {
  const TempFolder root;
  fs::create_directories(root / "gemma-x");
  WriteFile(root / "gemma-x/model.safetensors", "x");
  const auto folder = FindModelFiles(root / "gemma-x");
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(folder->name, "gemma-x");
  EXPECT_EQ(folder->format, ModelFiles::Format::kSafetensors);
  EXPECT_THAT(folder->weights, ElementsAre(root / "gemma-x/model.safetensors"));
  EXPECT_EQ(FindModelFiles(root / "gemma-x/")->name, "gemma-x");
  EXPECT_EQ(FindModelFiles(root / "gemma-x/model.safetensors")->name, "gemma-x");

  fs::create_directories(root / "other");
  WriteFile(root / "other/gemma-3-1b-it-Q4_0.gguf", "GGUF");
  WriteFile(root / "other/mmproj-f16.gguf", "GGUF");
  const auto gguf = FindModelFiles(root / "other");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(gguf->format, ModelFiles::Format::kGguf);
  EXPECT_EQ(gguf->name, "gemma-3-1b-it-Q4_0");
}

TEST(FindModelFiles, ShardsOfAnIndex) {
  const TempFolder root;
  WriteFile(
      root / "model.safetensors.index.json",
      R"({"weight_map":{"a":"model-00002-of-00002.safetensors","b":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors"}})");
  EXPECT_THAT(ErrorOf(root.path()),
              HasSubstr("model-00001-of-00002.safetensors: expected a shard"));
  WriteFile(root / "model-00001-of-00002.safetensors", "x");
  WriteFile(root / "model-00002-of-00002.safetensors", "x");
  for (const std::string& path : {root.path(), root / "model.safetensors.index.json",
                                  root / "model-00001-of-00002.safetensors"}) {
    const auto found = FindModelFiles(path);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_THAT(found->weights, ElementsAre(root / "model-00001-of-00002.safetensors",
                                            root / "model-00002-of-00002.safetensors"));
    EXPECT_FALSE(found->index.empty());
  }
  for (const char* bad : {R"({"weight_map":{"a":"../x"}})", R"({"weight_map":{"a":"/etc/passwd"}})",
                          R"({"weight_map":{"a":3}})", R"({"weight_map":{}})", "{", "[]"}) {
    WriteFile(root / "model.safetensors.index.json", bad);
    EXPECT_THAT(ErrorOf(root.path()), HasSubstr("model.safetensors.index.json: ")) << bad;
  }
}

TEST(FindModelFiles, HuggingFaceCache) {
  const TempFolder root;
  const std::string cache = root / "models--google--gemma-3-1b-it";
  for (const char* hash : {"aaa", "bbb"}) fs::create_directories(cache + "/snapshots/" + hash);
  fs::create_directories(cache + "/blobs");
  fs::create_directories(cache + "/refs");
  WriteFile(cache + "/blobs/1234", "x");
  fs::create_symlink("../../blobs/1234", cache + "/snapshots/bbb/model.safetensors");
  EXPECT_THAT(ErrorOf(cache), HasSubstr("expected one snapshot"));
  WriteFile(cache + "/refs/main", "bbb\n");
  const auto found = FindModelFiles(cache);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->name, "google/gemma-3-1b-it");
  EXPECT_THAT(found->weights, ElementsAre(cache + "/snapshots/bbb/model.safetensors"));
  EXPECT_EQ(FindModelFiles(cache + "/snapshots/bbb")->name, "google/gemma-3-1b-it");
  WriteFile(cache + "/refs/main", "../../..");
  EXPECT_THAT(ErrorOf(cache), HasSubstr("refs/main: expected the name of a folder"));
  WriteFile(cache + "/refs/main", "ccc");
  EXPECT_THAT(ErrorOf(cache), HasSubstr("found 'ccc'"));
}

TEST(FindModelFiles, SaysWhatIsThere) {
  const TempFolder root;
  EXPECT_THAT(ErrorOf(root / "nothing"), HasSubstr("found nothing there"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("empty path"));
  EXPECT_THAT(ErrorOf(root.path()), HasSubstr("found none among 0 entries"));
  WriteFile(root / "a.gguf", "GGUF");
  WriteFile(root / "b.gguf", "GGUF");
  EXPECT_THAT(ErrorOf(root.path()), HasSubstr("found 2 weight files (a.gguf, b.gguf...)"));
  WriteFile(root / "weights.bin", "PK\x03\x04");
  EXPECT_THAT(ErrorOf(root / "weights.bin"),
              HasSubstr("magic: expected 'GGUF' or a file named .safetensors, found 'PK"));
}

}  // namespace
}  // namespace tandem
