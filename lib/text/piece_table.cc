#include "lib/text/piece_table.h"

#include <bit>
#include <string>

#include "lib/base/status_macros.h"

namespace tandem {

static_assert(std::endian::native == std::endian::little, "ShortKey masks the bytes after a text");

PieceTable::PieceTable(size_t count)
    : slots_(std::bit_ceil(2 * count + 2)), mask_(slots_.size() - 1) {}

void PieceTable::Add(std::string_view text, Entry entry) {
  TANDEM_CHECK(!text.empty());
  if (text.size() > max_length_) max_length_ = text.size();
  if (text.size() > kShortBytes) {
    long_entries_.emplace(text, entry);
    return;
  }
  std::string padded(text);
  padded.resize(text.size() + kReadAhead);
  const Key key = ShortKey(std::string_view(padded).substr(0, text.size()));
  size_t at = HashOf(key) & mask_;
  while (slots_[at].key.high != 0) at = (at + 1) & mask_;
  slots_[at] = {key, entry};
}

PieceTable::Entry PieceTable::FindLong(std::string_view text) const {
  const auto found = long_entries_.find(text);
  return found == long_entries_.end() ? Entry{} : found->second;
}

PieceTable::Entry PieceTable::FindUnpadded(std::string_view text) const {
  if (text.empty() || text.size() > max_length_) return {};
  std::string padded(text);
  padded.resize(text.size() + kReadAhead);
  return Find(std::string_view(padded).substr(0, text.size()));
}

}  // namespace tandem
