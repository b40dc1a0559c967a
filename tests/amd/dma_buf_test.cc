// Dma-bufs of the system's making, with the stand-in for /dev/udmabuf preloaded; on a machine that
// has the node the same holds without it.
#include "lib/base/dma_buf.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/base/unix_socket.h"
#include "lib/weights/random_model.h"
#include "lib/weights/region_socket.h"
#include "lib/worker/edge.h"
#include "tests/unit/lib/weights/test_config.h"
#include "tests/unit/lib/worker/fake_device.h"

namespace tandem {
namespace {

constexpr std::uint64_t kPage = 4096;

TEST(DmaBufTest, IsOneAndSaysItsSize) {
  absl::StatusOr<SharedMemory> memory = AllocateDmaBuf("test", 3 * kPage - 5);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->kind, MemoryKind::kDmaBuf);
  EXPECT_TRUE(IsDmaBuf(memory->fd.get()));
  EXPECT_EQ(memory->bytes, 3 * kPage);
  ASSERT_NE(memory->mapping.data(), nullptr);
  EXPECT_EQ(memory->mapping.data()[17], std::byte{0});
  // As the kernel has it: the file status knows no size.
  struct stat info;
  ASSERT_EQ(::fstat(memory->fd.get(), &info), 0);
  EXPECT_EQ(info.st_size, 0);
  EXPECT_TRUE(absl::IsInvalidArgument(
      SharedMemory::Take(UniqueFd(::dup(memory->fd.get())), 3 * kPage + 1).status()));
  absl::StatusOr<SharedMemory> taken =
      SharedMemory::Take(UniqueFd(::dup(memory->fd.get())), 3 * kPage);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->kind, MemoryKind::kDmaBuf);
  EXPECT_EQ(taken->identity, memory->identity);
  ASSERT_TRUE(taken->Map(/*writable=*/true).ok());
  taken->mapping.data()[5] = std::byte{9};
  EXPECT_EQ(memory->mapping.data()[5], std::byte{9});
}

TEST(DmaBufTest, NoneIsLargerThanTheLimit) {
  const absl::StatusOr<Udmabuf> udmabuf = Udmabuf::Open();
  ASSERT_TRUE(udmabuf.ok()) << udmabuf.status();
  EXPECT_EQ(udmabuf->max_bytes(), std::uint64_t{2} << 20) << "the test's setting";
  EXPECT_TRUE(AllocateDmaBuf("test", udmabuf->max_bytes()).ok());
  EXPECT_TRUE(absl::IsUnimplemented(AllocateDmaBuf("test", udmabuf->max_bytes() + 1).status()));
}

TEST(DmaBufTest, AWindowShowsItsPartOfTheMemfd) {
  const absl::StatusOr<Udmabuf> udmabuf = Udmabuf::Open();
  ASSERT_TRUE(udmabuf.ok()) << udmabuf.status();
  const SharedMemory memory = *SharedMemory::Create("test", 4 * kPage);
  EXPECT_FALSE(udmabuf->Make(memory.fd.get(), 0, kPage).ok()) << "it can still shrink";
  ASSERT_TRUE(SealForGood(memory.fd.get()).ok());
  EXPECT_FALSE(udmabuf->Make(memory.fd.get(), 100, kPage).ok());
  EXPECT_FALSE(udmabuf->Make(memory.fd.get(), 3 * kPage, 2 * kPage).ok());
  const absl::StatusOr<UniqueFd> window = udmabuf->Make(memory.fd.get(), kPage, 2 * kPage);
  ASSERT_TRUE(window.ok()) << window.status();
  memory.mapping.data()[kPage + 7] = std::byte{42};
  EXPECT_EQ((*Mapping::Map(window->get(), 2 * kPage, false)).data()[7], std::byte{42});
  EXPECT_FALSE(Mapping::Map(window->get(), 3 * kPage, false).ok());
  EXPECT_FALSE(IsDmaBuf(memory.fd.get()));
}

TEST(DmaBufTest, MemorySealedAgainstWritingIsRefused) {
  SharedMemory memory = *SharedMemory::Create("test", kPage);
  memory.mapping = Mapping();
  ASSERT_EQ(::fcntl(memory.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE), 0);
  EXPECT_FALSE(Udmabuf::Open()->Make(memory.fd.get(), 0, kPage).ok());
}

// The loader's socket gives the windows beside the memfd, more of them than fit into one message.
TEST(DmaBufTest, RegionsComeWithTheirWindows) {
  const absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), WeightFormat::kBf16, 1);
  ASSERT_TRUE(model.ok());
  std::string folder = testing::TempDir() + "tandem-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  RegionServer::Options options;
  options.udmabuf = *Udmabuf::Open();
  const auto server = *RegionServer::Listen(folder + "/regions", std::move(options));
  std::size_t most = 0;
  for (const auto& [name, region] : model->regions) {
    RegionManifest manifest = region->manifest();
    // Every page a window of its own, so that there are many.
    for (std::uint64_t offset = 0; offset < manifest.bytes; offset += kPage)
      manifest.windows.push_back({offset, kPage});
    ASSERT_TRUE(server->Publish(manifest, UniqueFd(::dup(region->fd()))).ok());
    absl::StatusOr<RegionDescriptors> got =
        FetchRegion(folder + "/regions", manifest, absl::Seconds(30));
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->windows.size(), manifest.windows.size());
    // Two that changed places are noticed.
    std::vector<UniqueFd> windows = std::move(got->windows);
    if (windows.size() > 1) {
      std::vector<UniqueFd> swapped;
      for (const UniqueFd& window : windows) swapped.emplace_back(::dup(window.get()));
      std::swap(swapped[0], swapped[1]);
      EXPECT_FALSE(Region::Open(UniqueFd(::dup(got->memfd.get())), manifest, SmallConfig(), false,
                                std::move(swapped))
                       .ok());
    }
    const auto opened = Region::Open(std::move(got->memfd), manifest, SmallConfig(),
                                     /*verify_checksums=*/true, std::move(windows));
    EXPECT_TRUE(opened.ok()) << opened.status();
    most = std::max(most, manifest.windows.size());
  }
  EXPECT_GT(most, kMaxFdsPerMessage);
}

class ExportedResidual final : public ResidualBuffer {
 public:
  ExportedResidual(const ResidualLayout& layout, SharedMemory memory)
      : layout_(layout), memory_(std::move(memory)) {}
  const ResidualLayout& layout() const override { return layout_; }
  std::span<std::byte> host_view() const override {
    return {memory_.mapping.data(), memory_.mapping.size()};
  }

 private:
  const ResidualLayout layout_;
  const SharedMemory memory_;
};

// As an NPU is: it computes only in memory that it made.
class ExportOnlyDevice final : public FakeDevice {
 public:
  explicit ExportOnlyDevice(bool host_view)
      : FakeDevice(std::make_shared<FakeBehaviour>()), host_view_(host_view) {
    memory_.dma_buf = {0, MemoryAbility::kAny};
    memory_.owns_edges = true;
    memory_.host_view = host_view;
  }
  const MemoryDeclaration& memory() const override { return memory_; }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ImportResidual(HandleKind, UniqueFd,
                                                                 const ResidualLayout&) override {
    return absl::UnimplementedError("imports nothing");
  }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ExportResidual(HandleKind,
                                                                 const ResidualLayout& layout,
                                                                 UniqueFd* fd) override {
    TANDEM_ASSIGN_OR_RETURN(SharedMemory memory, AllocateDmaBuf("npu", layout.total_bytes()));
    *fd = UniqueFd(::fcntl(memory.fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!host_view_) memory.mapping = Mapping();
    return std::make_unique<ExportedResidual>(layout, std::move(memory));
  }

 private:
  const bool host_view_;
  MemoryDeclaration memory_;
};

TEST(RingTest, ADeviceThatOnlyExportsFeedsAnInlineEdgeThroughItsHostView) {
  EdgeEndSpec spec;
  spec.id = "npu0>gpu0";
  spec.layout = MakeResidualLayout(2, 4, 32);
  ExportOnlyDevice npu(/*host_view=*/true);
  const absl::StatusOr<ResidualRing> ring = MakeLocalRing(npu, spec);
  ASSERT_TRUE(ring.ok()) << ring.status();
  ASSERT_GE(ring->view().size(), spec.layout.total_bytes());
  ring->view()[9] = std::byte{3};
  EXPECT_EQ((*Mapping::Map(ring->fd.get(), kPage, false)).data()[9], std::byte{3});
  ExportOnlyDevice blind(/*host_view=*/false);
  EXPECT_TRUE(absl::IsUnimplemented(MakeLocalRing(blind, spec).status()));
}

}  // namespace
}  // namespace tandem
