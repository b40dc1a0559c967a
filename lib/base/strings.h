#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem {

// For Abseil's functions: Debian 12's Abseil has a string_view of its own that does not take the
// standard one.
inline absl::string_view AbslView(std::string_view text) {
  return absl::string_view(text.data(), text.size());
}

// absl::StrCat that takes std::string_view too. For messages.
template <typename... Parts>
std::string Cat(const Parts&... parts) {
  const auto adapt = [](const auto& part) -> decltype(auto) {
    if constexpr (std::is_same_v<std::decay_t<decltype(part)>, std::string_view>) {
      return AbslView(part);
    } else {
      return (part);
    }
  };
  return absl::StrCat(adapt(parts)...);
}

}  // namespace tandem
