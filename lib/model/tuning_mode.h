#pragma once

#include <cstdint>

#include "lib/base/enum_names.h"

namespace tandem {

// Whether a GPU's worker finds out for itself how kernels are best shaped there: where nothing is
// known of the device, never, or in any case.
enum class TuningMode : std::uint8_t { kAuto, kOff, kAgain };
template <>
inline constexpr EnumName<TuningMode> kEnumNames<TuningMode>[] = {
    {TuningMode::kAuto, "auto"}, {TuningMode::kOff, "off"}, {TuningMode::kAgain, "again"}};

// Whether a GPU's worker has dispatches follow each other without barriers in steps of one token or
// a few: where it is known to be right and faster, wherever the device can, or never.
enum class ChainingMode : std::uint8_t { kAuto, kOn, kOff };
template <>
inline constexpr EnumName<ChainingMode> kEnumNames<ChainingMode>[] = {
    {ChainingMode::kAuto, "auto"}, {ChainingMode::kOn, "on"}, {ChainingMode::kOff, "off"}};

}  // namespace tandem
