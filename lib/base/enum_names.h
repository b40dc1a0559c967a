#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {

// The texts of an enum's values, written once beside the enum. Flags, configuration files, logs and
// messages between processes all use them:
//
//   enum class KvType : std::uint8_t { kFloat32, kFloat16 };
//   template <>
//   inline constexpr EnumName<KvType> kEnumNames<KvType>[] = {{KvType::kFloat32, "float32"}, ...};
template <typename Enum>
struct EnumName {
  Enum value;
  std::string_view name;
};
template <typename Enum>
inline constexpr EnumName<Enum> kEnumNames[] = {};

template <typename Enum>
std::string_view NameOf(Enum value) {
  for (const auto& entry : kEnumNames<Enum>) {
    if (entry.value == value) return entry.name;
  }
  TANDEM_CHECK(false);
}

// "float32, float16".
template <typename Enum>
std::string NamesOf() {
  std::string list;
  for (const auto& entry : kEnumNames<Enum>) {
    if (!list.empty()) list += ", ";
    list += entry.name;
  }
  return list;
}

// INVALID_ARGUMENT "expected one of float32, float16, found 'x'", with "what: " before it
// unless `what` is empty.
template <typename Enum>
absl::StatusOr<Enum> ParseEnum(std::string_view what, std::string_view text) {
  for (const auto& entry : kEnumNames<Enum>) {
    if (entry.name == text) return entry.value;
  }
  return absl::InvalidArgumentError(Cat(what, what.empty() ? "" : ": ", "expected one of ",
                                        NamesOf<Enum>(), ", found '", text, "'"));
}

}  // namespace tandem
