// Which instruction sets the kernels are compiled for; included before Highway in every kernel
// file. EMU128 (plain C++), SSE4, AVX2 and AVX-512 with VNNI on x86: what lies between them (SSSE3,
// AVX-512 without VNNI) runs the next lower one.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3)
#define HWY_WANT_AVX3_DL 1
