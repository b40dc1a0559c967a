#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem {

// XXH3, 64 bits, seed 0: fast enough to check gigabytes of weights. Not cryptographic.
std::uint64_t Checksum(std::span<const std::byte> bytes);

}  // namespace tandem
