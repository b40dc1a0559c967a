#include "npu-worker/package/npu_family.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::npu {
namespace {

using ::testing::HasSubstr;

TEST(NpuFamilyTest, KnowsWhatDriversCallThem) {
  for (const char* name : {"NPU Phoenix", "NPU Hawk Point", "RyzenAI-npu1"}) {
    EXPECT_EQ(*ArrayOfNpu(name), kAie2Array) << name;
  }
  for (const char* name : {"NPU Strix", "NPU Strix Halo", "NPU Krackan 1", "RyzenAI-npu4",
                           "RyzenAI-npu5", "RyzenAI-npu6"}) {
    EXPECT_EQ(*ArrayOfNpu(name), kAie2pArray) << name;
  }
  for (const char* name : {"", "Alveo U250", "RyzenAI-npu2"}) {
    EXPECT_EQ(ArrayOfNpu(name).status().code(), absl::StatusCode::kUnimplemented) << name;
  }
  EXPECT_EQ(GenerationName(kAie2Array), "AIE2");
  EXPECT_EQ(GenerationName(kAie2pArray), "AIE2P");
}

TEST(NpuFamilyTest, RefusesFirmwareThatIsTooOld) {
  EXPECT_EQ(CheckFirmware(kAie2Array, "n", "1.5.2.380"), absl::OkStatus());
  EXPECT_EQ(CheckFirmware(kAie2Array, "n", "1.5.10.2"), absl::OkStatus());
  EXPECT_EQ(CheckFirmware(kAie2pArray, "n", "1.0.0.63"), absl::OkStatus());
  const absl::Status old = CheckFirmware(kAie2Array, "NPU Phoenix", "1.5.2.379");
  EXPECT_EQ(old.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(old.message()),
              HasSubstr("NPU Phoenix: expected firmware 1.5.2.380 or newer, found 1.5.2.379"));
  EXPECT_EQ(CheckFirmware(kAie2pArray, "n", "0.9.99.999").code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(NpuFamilyTest, WhatIsNoVersionSaysNothing) {
  for (const char* text : {"", "unknown", "1.5", "1.5.2.380.1", "1.5.2.x", "-1.0.0.0"}) {
    EXPECT_EQ(CheckFirmware(kAie2Array, "n", text), absl::OkStatus()) << text;
  }
}

}  // namespace
}  // namespace tandem::npu
