#pragma once

#include <cstdint>

#include "lib/base/enum_names.h"

namespace tandem {

// The choices that gateway, workers, loader and command line share. Between processes they travel
// as their names.

// Which program a worker is: tandem-gpu-worker or tandem-npu-worker.
enum class WorkerRole : std::uint8_t { kGpu, kNpu };
template <>
inline constexpr EnumName<WorkerRole> kEnumNames<WorkerRole>[] = {{WorkerRole::kGpu, "gpu"},
                                                                  {WorkerRole::kNpu, "npu"}};

// How memory crosses between two workers, in the order of preference.
enum class HandleKind : std::uint8_t { kDmaBuf = 0, kHostPointer = 1, kInline = 2 };
template <>
inline constexpr EnumName<HandleKind> kEnumNames<HandleKind>[] = {
    {HandleKind::kDmaBuf, "dma-buf"},
    {HandleKind::kHostPointer, "host-pointer"},
    {HandleKind::kInline, "inline"}};

// How activations enter matrix products with int8 and int4 weights: as they are, rounded to 8 bits
// in groups of 32, or (kAuto) as suits the device and the number of tokens. With bf16 weights kAuto
// is kFloat32.
enum class ActivationType : std::uint8_t { kFloat32, kInt8, kAuto };
template <>
inline constexpr EnumName<ActivationType> kEnumNames<ActivationType>[] = {
    {ActivationType::kFloat32, "float32"},
    {ActivationType::kInt8, "int8"},
    {ActivationType::kAuto, "auto"}};

// Keys and values in the cache.
enum class KvType : std::uint8_t { kFloat32, kFloat16, kInt8 };
template <>
inline constexpr EnumName<KvType> kEnumNames<KvType>[] = {
    {KvType::kFloat32, "float32"}, {KvType::kFloat16, "float16"}, {KvType::kInt8, "int8"}};

// What `--quant` asks for. As-is keeps what can be kept: F32, F16 and BF16 become bf16, Q4_0 int4,
// every other block type int8.
enum class QuantMode : std::uint8_t { kBf16, kInt8, kInt4, kAsIs };
template <>
inline constexpr EnumName<QuantMode> kEnumNames<QuantMode>[] = {{QuantMode::kBf16, "bf16"},
                                                                {QuantMode::kInt8, "int8"},
                                                                {QuantMode::kInt4, "int4"},
                                                                {QuantMode::kAsIs, "as-is"}};

// How a device whose memory is the processor's takes its weights: where the loader put them, or as
// a copy where its driver refuses that.
enum class WeightImport : std::uint8_t { kZeroCopy, kUpload };
template <>
inline constexpr EnumName<WeightImport> kEnumNames<WeightImport>[] = {
    {WeightImport::kZeroCopy, "zero-copy"}, {WeightImport::kUpload, "upload"}};

}  // namespace tandem
