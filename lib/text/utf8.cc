#include "lib/text/utf8.h"

namespace tandem {
namespace {

unsigned char ByteAt(std::string_view text, size_t index) {
  return static_cast<unsigned char>(text[index]);
}

// What a lead byte demands: bytes of the character (0: no character begins so) and the range of the
// second one (Unicode 15, table 3-7). Bytes after the second are 0x80 to 0xBF.
struct LeadRule {
  size_t length;
  unsigned char low, high;
};

LeadRule RuleOf(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Whether the bytes after the lead, as many as there are, suit it.
bool TrailSuits(const LeadRule& rule, std::string_view text) {
  for (size_t i = 1; i < text.size() && i < rule.length; ++i) {
    const unsigned char byte = ByteAt(text, i);
    const unsigned char low = i == 1 ? rule.low : 0x80;
    const unsigned char high = i == 1 ? rule.high : 0xBF;
    if (byte < low || byte > high) return false;
  }
  return true;
}

}  // namespace

size_t Utf8CharacterLength(std::string_view text) {
  const LeadRule rule = RuleOf(ByteAt(text, 0));
  if (rule.length == 0 || rule.length > text.size() || !TrailSuits(rule, text)) return 0;
  return rule.length;
}

bool IsUtf8CharacterPrefix(std::string_view text) {
  if (text.empty()) return true;
  const LeadRule rule = RuleOf(ByteAt(text, 0));
  return rule.length > text.size() && TrailSuits(rule, text);
}

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8CharacterLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace tandem
