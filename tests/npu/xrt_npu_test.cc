// The NPU through unmodified XRT and its xdna plug-in, over the stand-in for the kernel driver
// (tests/fake_amdxdna/with_fake_npu.sh). Each test opens the device anew, and with it the stand-in.
#include "npu-worker/xrt/xrt_npu.h"

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <sys/mman.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/numeric.h"
#include "lib/device/cpu/kernels.h"

namespace tandem::npu {
namespace {

using ::testing::HasSubstr;

bool OnStrix() {
  const char* model = std::getenv("FAKE_AMDXDNA_MODEL");
  return model != nullptr && std::string(model) == "strix";
}

std::string PackageFolder(bool int4) {
  const char* folder = std::getenv("TANDEM_NPU_PACKAGES");
  return absl::StrCat(folder == nullptr ? "" : folder, "/", OnStrix() ? "aie2p" : "aie2", "_",
                      int4 ? "int4" : "int8");
}

// A product whose operands fit the buffers, with one group of columns: its result has the CPU
// device's bits.
class Product {
 public:
  Product(XrtNpu* npu, std::int64_t rows, std::int64_t tokens)
      : layout_(*ProductLayout::Make(npu->info().array, {rows, 32, tokens, npu->package().int4})) {
    std::mt19937 random(7);
    values_.resize(rows * (int4() ? 16 : 32));
    for (std::uint8_t& v : values_) v = static_cast<std::uint8_t>(random());
    scales_.resize(rows);
    for (std::uint16_t& s : scales_)
      s = FloatToHalf((static_cast<float>(random() % 200) - 100) * 1e-3f);
    Fill(1);
    weights_ = *npu->Allocate(layout_.weight_bytes());
    activations_ = *npu->Allocate(layout_.activation_bytes());
    output_ = *npu->Allocate(layout_.output_bytes());
    PackWeights(layout_, values_.data(), scales_.data(), weights_.bytes());
    Pack();
    EXPECT_TRUE(weights_.Flush(0, layout_.weight_bytes()).ok());
    EXPECT_TRUE(FlushActivations().ok());
    auto run = npu->Prepare(layout_, weights_, activations_, output_);
    EXPECT_TRUE(run.ok()) << run.status();
    run_ = *std::move(run);
  }
  bool int4() const { return layout_.shape().int4; }

  // Other activations, in the process's memory only.
  void Fill(std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const std::int64_t tokens = layout_.shape().tokens;
    constexpr std::int64_t kPadded = 32 * kChunkGroups;
    plain_.assign(tokens * kPadded, 0);
    split_.assign(tokens * kPadded, 0);
    biased_.assign(tokens * kPadded, 0);
    x_scales_.assign(tokens * kChunkGroups, 0);
    sums_.assign(tokens * kChunkGroups, 0);
    rows_ = {plain_.data(), split_.data(), x_scales_.data(), sums_.data(),
             kPadded,       tokens,        biased_.data()};
    for (std::int64_t t = 0; t < tokens; ++t) {
      float x[32];
      for (float& v : x) v = normal(random);
      QuantizeActivations(x, 32, t, rows_);
    }
  }
  void Pack() { Pack(activations_.bytes()); }
  void Pack(std::span<std::byte> to) {
    PackActivations(layout_, layout_.shape().tokens,
                    {plain_.data(), rows_.cols_padded, x_scales_.data(), kChunkGroups}, to);
  }
  absl::Status FlushActivations() { return activations_.Flush(0, layout_.activation_bytes()); }
  absl::Status FetchOutput() { return output_.Fetch(0, layout_.output_bytes()); }
  NpuCall* run() { return run_.get(); }
  NpuBuffer* activations() { return &activations_; }
  const NpuBuffer& activations() const { return activations_; }
  const ProductLayout& layout() const { return layout_; }
  const NpuBuffer& weights() const { return weights_; }
  const NpuBuffer& output() const { return output_; }

  // What lies in the output now.
  std::vector<float> Output() const {
    std::vector<float> out(layout_.shape().rows * layout_.shape().tokens);
    UnpackOutput(layout_, layout_.shape().tokens, output_.bytes(), out.data(),
                 layout_.shape().rows);
    return out;
  }
  std::vector<float> Expected() const {
    const ProductShape& shape = layout_.shape();
    std::vector<float> out(shape.rows * shape.tokens);
    alignas(64) std::byte scratch[Int8ScratchBytes(32)];
    const MatrixView view = {int4() ? WeightFormat::kInt4 : WeightFormat::kInt8, shape.rows, 32,
                             values_.data(), scales_.data()};
    Int8Product(view, 0, shape.rows, rows_, scratch, out.data(), shape.rows);
    // The kernel adds its term to +0.
    for (float& v : out) v += 0.0f;
    return out;
  }

 private:
  ProductLayout layout_;
  std::vector<std::uint8_t> values_;
  std::vector<std::uint16_t> scales_;
  std::vector<std::int8_t> plain_, split_, biased_;
  std::vector<float> x_scales_;
  std::vector<std::int32_t> sums_;
  QuantizedRows rows_;
  NpuBuffer weights_, activations_, output_;
  std::unique_ptr<NpuCall> run_;
};

class XrtNpuTest : public ::testing::Test {
 protected:
  void TearDown() override {
    unsetenv("FAKE_AMDXDNA_FAULTS");
    unsetenv("FAKE_AMDXDNA_PINNED");
  }

  static absl::StatusOr<std::unique_ptr<XrtNpu>> TryOpen(bool int4) {
    absl::StatusOr<std::vector<NpuInfo>> npus = ListNpus();
    if (!npus.ok()) return npus.status();
    if (npus->empty()) return absl::NotFoundError("no NPU");
    absl::StatusOr<KernelPackage> package = LoadKernelPackage(PackageFolder(int4));
    if (!package.ok()) return package.status();
    return XrtNpu::Open(npus->front(), *package);
  }
  static std::unique_ptr<XrtNpu> Open(bool int4 = false) {
    absl::StatusOr<std::unique_ptr<XrtNpu>> npu = TryOpen(int4);
    EXPECT_TRUE(npu.ok()) << npu.status();
    return npu.ok() ? *std::move(npu) : nullptr;
  }
  static Deadline Soon() { return Deadline::After(absl::Seconds(60)); }
};

TEST_F(XrtNpuTest, FindsTheNpu) {
  const auto npus = ListNpus();
  ASSERT_TRUE(npus.ok()) << npus.status();
  ASSERT_EQ(npus->size(), 1U);
  EXPECT_THAT(npus->front().name, HasSubstr(OnStrix() ? "NPU Strix Halo" : "NPU Phoenix"));
  EXPECT_EQ(npus->front().firmware, OnStrix() ? "1.1.2.65" : "1.5.5.391");
  EXPECT_THAT(npus->front().driver, HasSubstr("stand-in"));
  EXPECT_EQ(npus->front().address, "0000:c5:00.1");
  EXPECT_EQ(npus->front().array, OnStrix() ? kAie2pArray : kAie2Array);
  EXPECT_EQ(npus->front().xrt, "2.25");
}

TEST_F(XrtNpuTest, ProductsHaveTheCpuDevicesBits) {
  for (const bool int4 : {false, true}) {
    const auto npu = Open(int4);
    ASSERT_NE(npu, nullptr);
    Product product(npu.get(), 300, 70);
    for (std::uint32_t seed = 2; seed < 4; ++seed) {
      product.Fill(seed);
      product.Pack();
      ASSERT_TRUE(product.FlushActivations().ok());
      ASSERT_TRUE(product.run()->Start().ok());
      ASSERT_EQ(product.run()->Wait(Soon()), absl::OkStatus());
      ASSERT_TRUE(product.FetchOutput().ok());
      EXPECT_EQ(product.Output(), product.Expected());
    }
  }
}

TEST_F(XrtNpuTest, ARunListRunsItsProductsInOneSubmission) {
  const auto npu = Open();
  Product first(npu.get(), 64, 5), second(npu.get(), 65, 9);
  auto list = npu->NewRunList();
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_TRUE((*list)->Add(*first.run()).ok());
  ASSERT_TRUE((*list)->Add(*second.run()).ok());
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ((*list)->Start(), absl::OkStatus());
    ASSERT_EQ((*list)->Wait(Soon()), absl::OkStatus());
  }
  ASSERT_TRUE(first.FetchOutput().ok());
  ASSERT_TRUE(second.FetchOutput().ok());
  EXPECT_EQ(first.Output(), first.Expected());
  EXPECT_EQ(second.Output(), second.Expected());
}

// The rule that hardware has and that no other test would show: without a flush the NPU reads what
// was there before, without a fetch the processor does.
TEST_F(XrtNpuTest, AMissingSyncReadsStaleBytes) {
  const auto npu = Open();
  Product product(npu.get(), 10, 3);
  const std::vector<float> before = product.Expected();
  product.Fill(99);
  product.Pack();
  ASSERT_TRUE(product.run()->Start().ok());
  ASSERT_EQ(product.run()->Wait(Soon()), absl::OkStatus());
  EXPECT_EQ(product.Output(), std::vector<float>(30));
  ASSERT_TRUE(product.FetchOutput().ok());
  EXPECT_EQ(product.Output(), before);
  EXPECT_NE(before, product.Expected());
}

TEST_F(XrtNpuTest, AnotherDeviceWritesExportedMemory) {
  const auto npu = Open();
  Product product(npu.get(), 10, 3);
  auto fd = product.activations()->Export();
  ASSERT_TRUE(fd.ok()) << fd.status();
  const std::uint64_t bytes = product.layout().activation_bytes();
  void* other = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
  ASSERT_NE(other, MAP_FAILED);
  product.Fill(5);
  product.Pack({static_cast<std::byte*>(other), bytes});
  // The processor sees it behind a fetch; the NPU sees it as it is.
  const std::span<const std::byte> own = product.activations()->bytes().first(bytes);
  EXPECT_NE(std::memcmp(own.data(), other, bytes), 0);
  ASSERT_TRUE(product.activations()->Fetch(0, bytes).ok());
  EXPECT_EQ(std::memcmp(own.data(), other, bytes), 0);
  munmap(other, bytes);
  ASSERT_TRUE(product.run()->Start().ok());
  ASSERT_EQ(product.run()->Wait(Soon()), absl::OkStatus());
  ASSERT_TRUE(product.FetchOutput().ok());
  EXPECT_EQ(product.Output(), product.Expected());
  // What an NPU exported, an NPU can import.
  const auto imported = npu->Import(*std::move(fd));
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->bytes().size(), RoundUp(bytes, 4096));
}

TEST_F(XrtNpuTest, ForeignMemoryIsRefused) {
  const auto npu = Open();
  UniqueFd foreign(memfd_create("gpu-memory", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(foreign.get(), 4096), 0);
  EXPECT_EQ(npu->Import(std::move(foreign)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(XrtNpuTest, ContextsHaveALimit) {
  std::vector<std::unique_ptr<XrtNpu>> npus;
  const std::size_t most = OnStrix() ? 16 : 6;
  for (std::size_t i = 0; i < most; ++i) {
    npus.push_back(Open());
    ASSERT_NE(npus.back(), nullptr);
  }
  EXPECT_EQ(TryOpen(false).status().code(), absl::StatusCode::kResourceExhausted)
      << TryOpen(false).status();
  npus.pop_back();
  EXPECT_NE(Open(), nullptr);
}

TEST_F(XrtNpuTest, HostMemoryIsPinnedUpToALimit) {
  setenv("FAKE_AMDXDNA_PINNED", "65536", 1);
  const auto npu = Open();
  void* pages = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  const std::span<std::byte> bytes(static_cast<std::byte*>(pages), 1 << 20);
  EXPECT_EQ(npu->PinHostMemory(bytes).status().code(), absl::StatusCode::kResourceExhausted);
  {
    const auto pinned = npu->PinHostMemory(bytes.first(65536));
    EXPECT_TRUE(pinned.ok()) << pinned.status();
    EXPECT_FALSE(npu->PinHostMemory(bytes.subspan(65536, 4096)).ok());
  }
  EXPECT_TRUE(npu->PinHostMemory(bytes.first(65536)).ok());
  munmap(pages, 1 << 20);
}

// As regions of weights are mapped.
TEST_F(XrtNpuTest, MemoryThatMayOnlyBeReadIsNotPinned) {
  const auto npu = Open();
  void* pages = mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  const std::span<std::byte> bytes(static_cast<std::byte*>(pages), 8192);
  EXPECT_EQ(npu->PinHostMemory(bytes).status().code(), absl::StatusCode::kResourceExhausted);
  ASSERT_EQ(mprotect(pages, 4096, PROT_READ | PROT_WRITE), 0);
  EXPECT_TRUE(npu->PinHostMemory(bytes.first(4096)).ok());
  EXPECT_FALSE(npu->PinHostMemory(bytes).ok());
  munmap(pages, 8192);
}

TEST_F(XrtNpuTest, ProductsReadWeightsFromPinnedMemory) {
  const auto npu = Open();
  const Product product(npu.get(), 300, 70);
  const std::uint64_t bytes = product.layout().weight_bytes();
  auto weights = npu->AllocatePinned(bytes);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_TRUE(weights->pinned());
  EXPECT_FALSE(product.weights().pinned());
  std::memcpy(weights->bytes().data(), product.weights().bytes().data(), bytes);
  ASSERT_TRUE(weights->Flush(0, bytes).ok());
  auto run = npu->Prepare(product.layout(), *weights, product.activations(), product.output());
  ASSERT_TRUE(run.ok()) << run.status();
  // The run keeps what it reads.
  *weights = NpuBuffer();
  ASSERT_TRUE((*run)->Start().ok());
  ASSERT_EQ((*run)->Wait(Soon()), absl::OkStatus());
  NpuBuffer output = product.output();
  ASSERT_TRUE(output.Fetch(0, product.layout().output_bytes()).ok());
  EXPECT_EQ(product.Output(), product.Expected());
}

// A 27B model under hybrid has 434 matrices and steps of up to 8 blocks of tokens; the heap that
// instructions come from has 2,048 pieces.
TEST_F(XrtNpuTest, ProductsOfOneShapeShareTheirInstructions) {
  const auto npu = Open();
  const Product product(npu.get(), 10, 3);
  std::vector<std::unique_ptr<NpuCall>> products;
  for (int i = 0; i < 2100; ++i) {
    auto more =
        npu->Prepare(product.layout(), product.weights(), product.activations(), product.output());
    ASSERT_TRUE(more.ok()) << i << ": " << more.status();
    products.push_back(*std::move(more));
  }
  ASSERT_TRUE(products.back()->Start().ok());
  ASSERT_EQ(products.back()->Wait(Soon()), absl::OkStatus());
  NpuBuffer output = product.output();
  ASSERT_TRUE(output.Fetch(0, product.layout().output_bytes()).ok());
  EXPECT_EQ(product.Output(), product.Expected());
}

TEST_F(XrtNpuTest, KernelsForAnotherArrayAreRefused) {
  const auto npus = ListNpus();
  ASSERT_TRUE(npus.ok());
  auto package = LoadKernelPackage(PackageFolder(false));
  ASSERT_TRUE(package.ok()) << package.status();
  package->array = OnStrix() ? kAie2Array : kAie2pArray;
  EXPECT_EQ(XrtNpu::Open(npus->front(), *package).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(XrtNpuTest, BuffersThatAreTooSmallAreRefused) {
  const auto npu = Open();
  Product product(npu.get(), 10, 3);
  const auto small = npu->Allocate(4096);
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(npu->Prepare(product.layout(), product.weights(), *product.activations(), *small)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

// Every fault that the stand-in injects ends in a clear error; the next open works again.
struct Fault {
  const char* plan;
  absl::StatusCode code;
  const char* text;
};
class XrtNpuFaultTest : public XrtNpuTest, public ::testing::WithParamInterface<Fault> {};

TEST_P(XrtNpuFaultTest, EndsInAClearError) {
  setenv("FAKE_AMDXDNA_FAULTS", GetParam().plan, 1);
  {
    const auto npu = Open();
    ASSERT_NE(npu, nullptr);
    Product product(npu.get(), 10, 3);
    ASSERT_TRUE(product.run()->Start().ok());
    ASSERT_EQ(product.run()->Wait(Soon()), absl::OkStatus());
    absl::Status status = product.run()->Start();
    if (status.ok()) status = product.run()->Wait(Soon());
    EXPECT_EQ(status.code(), GetParam().code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().text));
  }
  unsetenv("FAKE_AMDXDNA_FAULTS");
  const auto npu = Open();
  ASSERT_NE(npu, nullptr);
  Product product(npu.get(), 10, 3);
  ASSERT_TRUE(product.run()->Start().ok());
  EXPECT_EQ(product.run()->Wait(Soon()), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(
    Faults, XrtNpuFaultTest,
    ::testing::Values(Fault{"exec 2 timeout", absl::StatusCode::kUnavailable,
                            "the driver reset it"},
                      Fault{"exec 2 lost", absl::StatusCode::kUnavailable, "its context is lost"},
                      Fault{"exec 2 error", absl::StatusCode::kInternal, "failed with state"},
                      Fault{"exec 2 vanish", absl::StatusCode::kUnavailable, ""}),
    [](const auto& info) { return "Fault" + std::to_string(info.index); });

TEST_F(XrtNpuTest, NoMemoryForABufferIsSaid) {
  setenv("FAKE_AMDXDNA_FAULTS", "create_bo 4 nomem", 1);
  const auto npu = Open();
  ASSERT_NE(npu, nullptr);
  bool refused = false;
  for (int i = 0; i < 4; ++i) {
    const auto buffer = npu->Allocate(4096);
    if (buffer.ok()) continue;
    EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted) << buffer.status();
    refused = true;
  }
  EXPECT_TRUE(refused);
}

TEST_F(XrtNpuTest, NoContextForTheProcessIsSaid) {
  setenv("FAKE_AMDXDNA_FAULTS", "create_hwctx 1 nomem", 1);
  EXPECT_EQ(TryOpen(false).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace tandem::npu
