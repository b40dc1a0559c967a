#include "loader/read/safetensors.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/loader/test_files.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

// Header errors as the file's reader gives them.
std::string ErrorOf(const std::string& bytes) {
  const TempFolder folder;
  WriteFile(folder / "m.safetensors", bytes);
  const auto file = InputFile::Open(folder / "m.safetensors");
  EXPECT_TRUE(file.ok());
  const auto entries = ReadSafetensorsHeader(*file);
  if (entries.ok()) return "";
  const std::string text(entries.status().message());
  EXPECT_THAT(text, ::testing::StartsWith(folder / "m.safetensors: "));
  EXPECT_EQ(text.find('\n'), std::string::npos);
  return text;
}

constexpr char kGood[] =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})";
const std::string kData(12, 'x');

TEST(Safetensors, ReadsEntriesInOrderOfOffsets) {
  const auto entries = ParseSafetensorsHeader(kGood, 100, 112);
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[0].dtype, "BF16");
  EXPECT_EQ((*entries)[0].shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ((*entries)[0].offset, 100u);
  EXPECT_EQ((*entries)[0].bytes, 8u);
  EXPECT_EQ((*entries)[1].offset, 108u);
  EXPECT_EQ(ErrorOf(SafetensorsFile(kGood, kData)), "");
}

TEST(Safetensors, BrokenLengths) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("header: expected at least 8 bytes, found 0"));
  EXPECT_THAT(ErrorOf("1234567"), HasSubstr("found 7"));
  EXPECT_THAT(ErrorOf(std::string("\0\0\0\0\0\0\0\0{}", 10)),
              HasSubstr("header length: expected 2 to 2 (the file has 10 bytes), found 0"));
  EXPECT_THAT(ErrorOf(std::string("\3\0\0\0\0\0\0\0{}", 10)), HasSubstr("found 3"));
  EXPECT_THAT(ErrorOf("\xff\xff\xff\xff\xff\xff\xff\xff{}"),
              HasSubstr("found 18446744073709551615"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(kGood, kData.substr(1))),
              HasSubstr("tensor 'b': data_offsets: expected a range inside the file's 11 bytes of "
                        "data, found [8, 12)"));
}

struct BadHeader {
  const char* header;
  const char* expected;
};
class SafetensorsBad : public ::testing::TestWithParam<BadHeader> {};

TEST_P(SafetensorsBad, OneLineNamesTheTensor) {
  EXPECT_THAT(ErrorOf(SafetensorsFile(GetParam().header, kData)), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    All, SafetensorsBad,
    ::testing::Values(
        BadHeader{"[]", "header: expected a JSON object"},
        BadHeader{"{\"a\":", "header: expected a JSON object"},
        BadHeader{R"({"a":3})", "tensor 'a': entry: expected an object, found '3'"},
        BadHeader{R"({"a":{"shape":[1],"data_offsets":[0,4]}})",
                  "tensor 'a': dtype: expected a string, found nothing"},
        BadHeader{R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "shape: expected a list"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
                  "shape: expected sizes"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})",
                  "shape: expected sizes"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1]}})",
                  "data_offsets: expected two offsets, found nothing"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "found [4, 0)"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}})", "found [0, 400)"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}})",
                  "inside the file's 12 bytes"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
                  "expected 8 bytes for its dtype and shape, found 4"},
        BadHeader{
            R"({"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}})",
            "under 2^64"},
        BadHeader{
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
            "tensor 'b': data_offsets: expected a start after 'a' ends at 8, found 4"},
        BadHeader{
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            "tensor 'a': expected once, found twice"},
        BadHeader{R"({"a\nb":3})", "tensor 'a\\nb'"},
        BadHeader{R"({"a":[[[[[[[[[[1]]]]]]]]]]})", "8 levels"}));

TEST(CanonicalTensorName, AllSpellings) {
  EXPECT_EQ(CanonicalTensorName("model.norm.weight"), "model.norm.weight");
  EXPECT_EQ(CanonicalTensorName("language_model.model.norm.weight"), "model.norm.weight");
  EXPECT_EQ(CanonicalTensorName("model.language_model.norm.weight"), "model.norm.weight");
  EXPECT_TRUE(IsUnusedTensor(CanonicalTensorName("language_model.lm_head.weight")));
  EXPECT_TRUE(IsUnusedTensor("vision_tower.vision_model.embeddings.patch_embedding.weight"));
  EXPECT_TRUE(IsUnusedTensor("model.multi_modal_projector.mm_soft_emb_norm.weight"));
  EXPECT_FALSE(IsUnusedTensor("model.norm.weight"));
}

}  // namespace
}  // namespace tandem
