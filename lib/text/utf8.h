#pragma once

#include <cstddef>
#include <string_view>

namespace tandem {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the well-formed UTF-8 character that `text` begins with (no overlong forms, no
// surrogates, at most U+10FFFF), or 0 when it begins with none. `text` must not be empty.
size_t Utf8CharacterLength(std::string_view text);

// Whether `text`, which is not a whole character, could become one by adding bytes. "" could.
bool IsUtf8CharacterPrefix(std::string_view text);

// Whether all of `text` is well-formed characters.
bool IsValidUtf8(std::string_view text);

// The length that a lead byte announces, well-formed or not: 1 for ASCII and trail bytes, else 2
// to 4.
inline size_t Utf8AnnouncedLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace tandem
