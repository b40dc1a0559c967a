#include "lib/base/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace tandem {
namespace {

TEST(SharedMemoryTest, IsZeroedAndWholePages) {
  absl::StatusOr<SharedMemory> memory = SharedMemory::Create("test", 100);
  ASSERT_TRUE(memory.ok()) << memory.status();
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(memory->mapping.data()[i], std::byte{0});
  EXPECT_EQ(::lseek(memory->fd.get(), 0, SEEK_END), static_cast<off_t>(PageSize()));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory->mapping.data()) % PageSize(), 0u);
}

TEST(SharedMemoryTest, TwoMappingsAreTheSamePages) {
  SharedMemory memory = *SharedMemory::Create("test", 4096);
  Mapping other = *Mapping::Map(memory.fd.get(), 4096, /*writable=*/false);
  EXPECT_NE(other.data(), memory.mapping.data());
  memory.mapping.data()[7] = std::byte{42};
  EXPECT_EQ(other.data()[7], std::byte{42});
}

TEST(SharedMemoryTest, TheMappingOutlivesTheDescriptor) {
  SharedMemory memory = *SharedMemory::Create("test", 4096);
  memory.fd.Reset();
  memory.mapping.data()[0] = std::byte{1};
  EXPECT_EQ(memory.mapping.data()[0], std::byte{1});
}

TEST(SharedMemoryTest, MappingBeyondTheFileIsRefused) {
  const SharedMemory memory = *SharedMemory::Create("test", 4096);
  const absl::Status status = Mapping::Map(memory.fd.get(), 8192, false).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(std::string(status.message()).find("8192"), std::string::npos) << status;
  EXPECT_FALSE(Mapping::Map(memory.fd.get(), 0, false).ok());
  EXPECT_FALSE(Mapping::Map(-1, 4096, false).ok());
}

TEST(SharedMemoryTest, MovingAMapping) {
  SharedMemory memory = *SharedMemory::Create("test", 4096);
  Mapping moved(std::move(memory.mapping));
  EXPECT_EQ(memory.mapping.data(), nullptr);
  moved.data()[0] = std::byte{1};
  Mapping assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.data()[0], std::byte{1});
}

TEST(SharedMemoryTest, ASealedSizeStays) {
  const SharedMemory memory = *SharedMemory::Create("test", 8192);
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSealedSize(memory.fd.get(), 4096)));
  ASSERT_TRUE(SealSize(memory.fd.get()).ok());
  EXPECT_NE(::ftruncate(memory.fd.get(), 4096), 0);
  EXPECT_NE(::ftruncate(memory.fd.get(), 16384), 0);
  EXPECT_TRUE(CheckSealedSize(memory.fd.get(), 8192).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSealedSize(memory.fd.get(), 8193)));
  memory.mapping.data()[0] = std::byte{1};  // contents stay writable
}

TEST(SharedMemoryTest, SealedForGoodKeepsItsSizeAndStaysWritable) {
  SharedMemory memory = *SharedMemory::Create("test", 4096);
  ASSERT_TRUE(SealForGood(memory.fd.get()).ok());
  EXPECT_NE(::ftruncate(memory.fd.get(), 8192), 0);
  EXPECT_NE(::ftruncate(memory.fd.get(), 0), 0);
  EXPECT_FALSE(SealSize(memory.fd.get()).ok()) << "no seal can be added";
  EXPECT_TRUE(Mapping::Map(memory.fd.get(), 4096, /*writable=*/true).ok());
}

TEST(SharedMemoryTest, TakesWhatAnotherProcessSentAndSaysWhatItIs) {
  SharedMemory memory = *SharedMemory::Create("test", 8192);
  EXPECT_EQ(memory.kind, MemoryKind::kMemfd);
  EXPECT_EQ(memory.bytes, 8192u);
  const auto take = [&](std::uint64_t bytes) {
    return SharedMemory::Take(UniqueFd(::dup(memory.fd.get())), bytes);
  };
  EXPECT_TRUE(absl::IsInvalidArgument(take(8192).status())) << "not sealed yet";
  ASSERT_TRUE(SealSize(memory.fd.get()).ok());
  absl::StatusOr<SharedMemory> taken = take(8192);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->kind, MemoryKind::kMemfd);
  EXPECT_EQ(taken->identity, memory.identity);
  EXPECT_EQ(taken->mapping.data(), nullptr);
  ASSERT_TRUE(taken->Map(/*writable=*/true).ok());
  taken->mapping.data()[1] = std::byte{7};
  EXPECT_EQ(memory.mapping.data()[1], std::byte{7});
  EXPECT_TRUE(absl::IsInvalidArgument(take(8193).status()));
  EXPECT_FALSE(SharedMemory::Take(UniqueFd(), 1).ok());
}

TEST(SharedMemoryTest, AMemfdIsNeverCalledADmaBuf) {
  const SharedMemory memory = *SharedMemory::Create("test", 4096);
  EXPECT_FALSE(IsDmaBuf(memory.fd.get()));
  EXPECT_FALSE(IsDmaBuf(-1));
  EXPECT_EQ(MemoryKindName(MemoryKind::kMemfd), "memfd");
  EXPECT_EQ(MemoryKindName(MemoryKind::kDmaBuf), "dma-buf");
}

TEST(SharedMemoryTest, OrdinaryFilesAreNotSealed) {
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSealedSize(file.get(), 1)));
}

TEST(SharedMemoryTest, IdentityIsThatOfThePages) {
  const SharedMemory a = *SharedMemory::Create("test", 4096);
  const SharedMemory b = *SharedMemory::Create("test", 4096);
  const UniqueFd copy(::dup(a.fd.get()));
  EXPECT_EQ(*IdentityOf(a.fd.get()), *IdentityOf(copy.get()));
  EXPECT_NE(*IdentityOf(a.fd.get()), *IdentityOf(b.fd.get()));
  EXPECT_FALSE(IdentityOf(-1).ok());
}

TEST(SharedMemoryTest, HugePagesWhereThereAreAny) {
  bool got = false;
  absl::StatusOr<SharedMemory> memory =
      SharedMemory::Create("test", 100, /*huge_pages=*/true, &got);
  ASSERT_TRUE(memory.ok()) << memory.status();
  memory->mapping.data()[99] = std::byte{1};
  EXPECT_EQ(::lseek(memory->fd.get(), 0, SEEK_END), static_cast<off_t>(got ? 2 << 20 : PageSize()));
}

TEST(SharedMemoryTest, TheDescriptorDoesNotLeakIntoPrograms) {
  const SharedMemory memory = *SharedMemory::Create("test", 4096);
  EXPECT_NE(::fcntl(memory.fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace
}  // namespace tandem
