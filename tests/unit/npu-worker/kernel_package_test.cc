#include "npu-worker/package/kernel_package.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/strings.h"

namespace tandem::npu {
namespace {

using ::testing::HasSubstr;

// The xclbin of the package below is these nine bytes; 0xcbf43926 is their well-known crc32.
constexpr char kXclbin[] = "123456789";
constexpr char kGood[] = R"({"format": 1, "kind": "product", "generation": "aie2p",
  "weights": "int4",
  "kernel": "MLIR_AIE", "array": {"rows": 4, "columns": 8},
  "tile": {"rows": 64, "tokens": 64, "columns": 128}, "parameter_address": 2048,
  "xclbin": {"file": "product.xclbin", "bytes": 9, "crc32": 3421780262},
  "toolchain": {"mlir_aie": "1.0", "peano": "19.0"}})";

std::string With(std::string_view from, std::string_view to) {
  std::string text = kGood;
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST(KernelPackageTest, ReadsWhatItShould) {
  const auto package = ParseKernelPackage(kGood, "p");
  ASSERT_TRUE(package.ok()) << package.status();
  EXPECT_EQ(package->kind, KernelKind::kProduct);
  EXPECT_EQ(package->array, kAie2pArray);
  EXPECT_TRUE(package->int4);
  EXPECT_EQ(package->kernel, "MLIR_AIE");
  EXPECT_EQ(package->parameter_address, 2048U);
  EXPECT_EQ(package->xclbin_file, "product.xclbin");
  EXPECT_EQ(package->mlir_aie, "1.0");
  EXPECT_EQ(package->peano, "19.0");
}

// Attention and rows have sizes of their own, and neither weights nor a parameter.
TEST(KernelPackageTest, OtherKinds) {
  const auto of = [](std::string_view kind, std::string_view tile) {
    return ParseKernelPackage(
        absl::StrCat(R"({"format": 1, "kind": ")", AbslView(kind), R"(", "generation": "aie2",
          "kernel": "MLIR_AIE", "array": {"rows": 4, "columns": 4}, "tile": )",
                     AbslView(tile), R"(, "xclbin": {"file": "a", "bytes": 9, "crc32": 1},
          "toolchain": {"mlir_aie": "1.0", "peano": "19.0"}})"),
        "p");
  };
  const auto attention = of("attention", R"({"values": 4096})");
  ASSERT_TRUE(attention.ok()) << attention.status();
  EXPECT_EQ(attention->kind, KernelKind::kAttention);
  EXPECT_EQ(KernelKindName(attention->kind), "attention");
  const auto rows = of("rows", R"({"chunk": 1024, "chunks": 6})");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(rows->kind, KernelKind::kRows);
  EXPECT_THAT(std::string(of("rows", R"({"values": 4096})").status().message()),
              HasSubstr("tile.chunk: expected 1024"));
  EXPECT_THAT(std::string(of("attention", R"({"values": 4097})").status().message()),
              HasSubstr("tile.values: expected 4096, found 4097"));
  EXPECT_THAT(std::string(of("rows", R"({"chunk": 1024, "chunks": 7})").status().message()),
              HasSubstr("tile.chunks: expected 6, found 7"));
}

TEST(KernelPackageTest, SaysWhatIsWrong) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "p: expected JSON"},
      {"[]", "p: top level: expected an object"},
      {"null", "p: top level: expected an object"},
      {With("\"format\": 1", "\"format\": 2"), "format: expected 1, found 2"},
      {With("\"kind\": \"product\"", "\"kind\": \"norm\""),
       "kind: expected product, attention or rows, found 'norm'"},
      {With("\"kind\": \"product\", ", ""), "kind: expected a text"},
      {With("aie2p", "aie1"), "generation: expected aie2 or aie2p, found 'aie1'"},
      {With("int4", "int2"), "weights: expected int8 or int4, found 'int2'"},
      {With("\"columns\": 8", "\"columns\": 4"), "array.columns: expected 8, found 4"},
      {With("\"tokens\": 64", "\"tokens\": 32"), "tile.tokens: expected 64, found 32"},
      {With("2048", "2047"), "parameter_address: expected a multiple of 4"},
      {With("2048", "65536"), "parameter_address: expected a multiple of 4 below 65536"},
      {With("2048", "-4"), "parameter_address: expected a number of 0 or more, found -4"},
      {With("product.xclbin", "../product.xclbin"), "xclbin: expected the name of a file"},
      {With("product.xclbin", "a\\u0000b"), "xclbin: expected the name of a file"},
      {With("3421780262", "4294967296"), "a crc32 of 32 bits"},
      {With("\"kernel\": \"MLIR_AIE\"", "\"kernel\": 3"), "kernel: expected a text, found 3"},
      {With("\"peano\"", "\"clang\""), "toolchain.peano: expected a text"},
      {With("{\"mlir_aie\": \"1.0\", \"peano\": \"19.0\"}", "5"), "toolchain: expected an object"},
  };
  for (const auto& [text, expected] : cases) {
    const auto package = ParseKernelPackage(text, "p");
    EXPECT_EQ(package.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(package.status().message()), HasSubstr(expected)) << text;
  }
}

// It is printed on terminals.
TEST(KernelPackageTest, TextsAreShortAndPlain) {
  for (const std::string& version :
       {std::string("\\u001b[2J"), std::string("1\\n2"), std::string(), std::string(101, 'x')}) {
    const std::string text = With("\"1.0\"", "\"" + version + "\"");
    EXPECT_THAT(std::string(ParseKernelPackage(text, "p").status().message()),
                HasSubstr("expected 1 to 100 printable characters"));
  }
}

TEST(KernelPackageTest, DeepNestingIsNoTrouble) {
  const std::string deep(1000000, '[');
  EXPECT_FALSE(ParseKernelPackage(deep, "p").ok());
}

class KernelPackageFolderTest : public ::testing::Test {
 protected:
  KernelPackageFolderTest() {
    char name[] = "/tmp/kernel_package_test_XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~KernelPackageFolderTest() override { std::filesystem::remove_all(folder_); }
  void Write(const char* name, std::string_view bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
  }
  std::string folder_;
};

TEST_F(KernelPackageFolderTest, LoadsAPackageWhoseXclbinIsWhole) {
  EXPECT_EQ(LoadKernelPackage(folder_).status().code(), absl::StatusCode::kNotFound);
  Write("package.json", kGood);
  EXPECT_EQ(LoadKernelPackage(folder_).status().code(), absl::StatusCode::kNotFound);
  Write("product.xclbin", kXclbin);
  const auto package = LoadKernelPackage(folder_);
  ASSERT_TRUE(package.ok()) << package.status();
  EXPECT_EQ(package->xclbin_file, folder_ + "/product.xclbin");
  EXPECT_EQ(std::string(package->xclbin.begin(), package->xclbin.end()), kXclbin);
}

TEST_F(KernelPackageFolderTest, WhatIsNoFileIsRefusedAtOnce) {
  Write("package.json", kGood);
  const std::string xclbin = folder_ + "/product.xclbin";
  ASSERT_EQ(mkfifo(xclbin.c_str(), 0600), 0);
  EXPECT_EQ(LoadKernelPackage(folder_).status().code(), absl::StatusCode::kInvalidArgument);
  std::filesystem::remove(xclbin);
  std::filesystem::create_symlink("/dev/zero", xclbin);
  EXPECT_EQ(LoadKernelPackage(folder_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(KernelPackageFolderTest, ADamagedXclbinIsRefused) {
  Write("package.json", kGood);
  for (const char* damaged : {"12345678", "123456780", "1234567890", ""}) {
    Write("product.xclbin", damaged);
    const auto package = LoadKernelPackage(folder_);
    EXPECT_EQ(package.status().code(), absl::StatusCode::kInvalidArgument) << damaged;
    EXPECT_THAT(std::string(package.status().message()), HasSubstr("expected 9 bytes"));
  }
}

TEST_F(KernelPackageFolderTest, AnEndlessDescriptionIsRefused) {
  std::string endless(100000, ' ');
  Write("package.json", endless.append(kGood));
  EXPECT_THAT(std::string(LoadKernelPackage(folder_).status().message()), HasSubstr("at most"));
}

}  // namespace
}  // namespace tandem::npu
