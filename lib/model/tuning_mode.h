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

}  // namespace tandem
