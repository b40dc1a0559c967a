// Included by GLSL and by C++: parameter structs are written once. Members are 4 bytes each, so
// both lay them out alike.
#ifndef TANDEM_KERNELS_COMMON_SHARED_TYPES_H_
#define TANDEM_KERNELS_COMMON_SHARED_TYPES_H_

#ifdef __cplusplus
#include <cstdint>
#define TANDEM_SHARED_BEGIN   \
  namespace tandem::kernels { \
  using uint = std::uint32_t;
#define TANDEM_SHARED_END }
#define TANDEM_SHARED_CONST(name, value) inline constexpr std::uint32_t name = value;
#else
#define TANDEM_SHARED_BEGIN
#define TANDEM_SHARED_END
#define TANDEM_SHARED_CONST(name, value) const uint name = value;
#endif

#endif
