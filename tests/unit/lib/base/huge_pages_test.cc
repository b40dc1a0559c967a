#include "lib/base/huge_pages.h"

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/base/shared_memory.h"

namespace tandem {
namespace {

constexpr std::size_t kPages = 4;

std::span<std::byte> BytesOf(const Mapping& mapping) { return {mapping.data(), mapping.size()}; }

// Bytes of a mapping that the process sees through page table entries of 2 MiB.
std::size_t MappedHuge(const void* at) {
  std::ifstream maps("/proc/self/smaps");
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  std::string line;
  bool here = false;
  while (std::getline(maps, line)) {
    std::uintptr_t first = 0, last = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2)
      here = first <= address && address < last;
    std::size_t kilobytes = 0;
    if (here && std::sscanf(line.c_str(), "ShmemPmdMapped: %zu kB", &kilobytes) == 1)
      return kilobytes << 10;
  }
  return 0;
}

bool Aligned(const Mapping& mapping) {
  return reinterpret_cast<std::uintptr_t>(mapping.data()) % kHugePageBytes == 0;
}

TEST(HugePages, AreMadeBeforeMemoryIsFilledAndSeenByWhoeverMapsIt) {
  const SharedMemory trial = *SharedMemory::Create("trial", kHugePageBytes);
  if (MakeHugePages(BytesOf(trial.mapping)) == 0)
    GTEST_SKIP() << "the kernel makes no 2 MiB pages of shared memory";
  // Four whole ones and some.
  const SharedMemory memory = *SharedMemory::Create("test", kPages * kHugePageBytes + 5000);
  ASSERT_TRUE(Aligned(memory.mapping));
  const std::span<std::byte> bytes = BytesOf(memory.mapping);
  EXPECT_EQ(MakeHugePages(bytes.subspan(3 * kHugePageBytes)), kHugePageBytes);
  EXPECT_EQ(MakeHugePages(bytes.first(3 * kHugePageBytes + 100)), 3 * kHugePageBytes);
  EXPECT_EQ(MappedHuge(bytes.data()), kPages * kHugePageBytes);
  for (std::size_t at = 0; at < bytes.size(); ++at) bytes[at] = static_cast<std::byte>(at % 251);

  const Mapping other = *Mapping::Map(memory.fd.get(), memory.mapping.size(), /*writable=*/false);
  ASSERT_TRUE(Aligned(other));
  for (std::size_t at = 0; at < bytes.size(); ++at)
    ASSERT_EQ(other.data()[at], static_cast<std::byte>(at % 251)) << at;
  EXPECT_EQ(MappedHuge(other.data()), kPages * kHugePageBytes);
}

TEST(HugePages, WhatWasWrittenAlreadyStays) {
  const SharedMemory memory = *SharedMemory::Create("test", 2 * kHugePageBytes);
  const std::span<std::byte> bytes = BytesOf(memory.mapping);
  bytes[0] = std::byte{7};
  bytes[kHugePageBytes + 9000] = std::byte{8};
  MakeHugePages(bytes);
  EXPECT_EQ(bytes[0], std::byte{7});
  EXPECT_EQ(bytes[1], std::byte{0});
  EXPECT_EQ(bytes[kHugePageBytes + 9000], std::byte{8});
}

TEST(HugePages, WhatFillsNoWholeOneStaysAsItIs) {
  const SharedMemory small = *SharedMemory::Create("test", 3 * PageSize());
  EXPECT_EQ(MakeHugePages(BytesOf(small.mapping)), 0u);
  const SharedMemory memory = *SharedMemory::Create("test", 2 * kHugePageBytes);
  EXPECT_EQ(MakeHugePages(BytesOf(memory.mapping).subspan(PageSize(), kHugePageBytes)), 0u);
  EXPECT_EQ(MakeHugePages({}), 0u);
}

// The address space that alignment took is given back.
TEST(HugePages, LargeMappingsAreAlignedAndLeaveNothingBehind) {
  const SharedMemory memory = *SharedMemory::Create("test", 3 * kHugePageBytes);
  const auto mapped_kilobytes = [] {
    std::ifstream status("/proc/self/status");
    std::string word;
    std::size_t kilobytes = 0;
    while (status >> word && word != "VmSize:") continue;
    status >> kilobytes;
    return kilobytes;
  };
  std::vector<Mapping> mappings;
  mappings.reserve(64);
  const std::size_t before = mapped_kilobytes();
  for (int i = 0; i < 64; ++i) {
    mappings.push_back(*Mapping::Map(memory.fd.get(), memory.bytes - i * 10, /*writable=*/false));
    EXPECT_TRUE(Aligned(mappings.back()));
  }
  EXPECT_LT(mapped_kilobytes() - before, 64 * (3 * kHugePageBytes >> 10) + 1024);
  mappings.clear();
  EXPECT_LT(mapped_kilobytes(), before + 1024);
}

}  // namespace
}  // namespace tandem
