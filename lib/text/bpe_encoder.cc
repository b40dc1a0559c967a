#include "lib/text/bpe_encoder.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/text/utf8.h"

namespace tandem {

// A stretch of the normalised text that no merge has joined further yet. Offsets and sizes in
// bytes.
struct BpeEncoder::Symbol {
  uint32_t begin;
  uint32_t size;    // 0: it went into the symbol before it
  int32_t id = -1;  // of the piece; -1 for a character not looked up yet
  int32_t previous = -1;
  int32_t next = -1;
  bool frozen = false;  // a user-defined symbol: takes part in no merge
};

class BpeEncoder::Word {
 public:
  // `text` must be followed by PieceTable::kReadAhead readable bytes.
  Word(std::string_view text, std::vector<int32_t>& ids) : ids(ids), text_(text) {}

  void Add(size_t begin, size_t size) {
    symbols.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(size)});
  }
  void AddFrozen(size_t begin, size_t size, int32_t id) {
    symbols.push_back(
        {static_cast<uint32_t>(begin), static_cast<uint32_t>(size), id, -1, -1, true});
  }
  std::string_view Text(size_t begin, size_t size) const { return {text_.data() + begin, size}; }

  std::vector<Symbol> symbols;
  std::vector<int32_t>& ids;
  bool after_unknown = false;  // the last id is unk
  // How unused pieces came about: text to the size of its left part.
  std::unordered_map<std::string_view, uint32_t> cuts;

 private:
  std::string_view text_;
};

// Candidate merges, best first: the highest score, of equal ones the leftmost.
class MergeQueue {
 public:
  struct Pair {
    float score;
    int32_t left, right;  // indices of symbols
    uint32_t size;        // of both together when the pair was proposed
    int32_t id;           // of the piece they make
  };

  bool empty() const { return heap_.empty(); }
  void Push(const Pair& pair) {
    heap_.push_back(pair);
    std::push_heap(heap_.begin(), heap_.end(), Worse);
  }
  Pair Pop() {
    std::pop_heap(heap_.begin(), heap_.end(), Worse);
    const Pair best = heap_.back();
    heap_.pop_back();
    return best;
  }

 private:
  static bool Worse(const Pair& a, const Pair& b) {
    return a.score != b.score ? a.score < b.score : a.left > b.left;
  }
  std::vector<Pair> heap_;
};
namespace {

bool Mergeable(const Piece& piece) {
  return piece.type == PieceType::kNormal || piece.type == PieceType::kUnused;
}

// Whether U+2581 stands in `text` right after another character.
bool HasSpaceInside(std::string_view text) {
  for (size_t at = text.find(kSpaceSymbol); at != std::string_view::npos;
       at = text.find(kSpaceSymbol, at + 1)) {
    if (at > 0 && !text.substr(0, at).ends_with(kSpaceSymbol)) return true;
  }
  return false;
}

}  // namespace

BpeEncoder::BpeEncoder(const Vocabulary& vocabulary)
    : vocabulary_(vocabulary),
      pieces_(std::count_if(vocabulary.pieces.begin(), vocabulary.pieces.end(), Mergeable)) {
  cut_before_space_ = true;
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const Piece& piece = vocabulary.pieces[i];
    const auto id = static_cast<int32_t>(i);
    longest_piece_ = std::max(longest_piece_, piece.text.size());
    if (piece.type == PieceType::kByte) byte_ids_[ByteOfPiece(piece.text)] = id;
    if (!Mergeable(piece)) continue;
    pieces_.Add(piece.text, {id, piece.score});
    if (HasSpaceInside(piece.text)) cut_before_space_ = false;
  }
  for (size_t c = 0; c < ascii_ids_.size(); ++c) {
    const char text = static_cast<char>(c);
    ascii_ids_[c] = pieces_.FindUnpadded({&text, 1}).id;
  }
  LearnSymbols();
  unused_reachable_ = AnyUnusedReachable();
  // A run of characters without a piece is one unk, and a run of spaces may be dropped.
  if (!vocabulary_.byte_fallback || vocabulary_.remove_extra_whitespaces) longest_piece_ = 0;
}

// Every id stands for at most longest_piece_ bytes of the normalised text, in which a space has
// three bytes and no character has fewer than in the text itself.
bool BpeEncoder::CertainlyOver(std::string_view text, size_t max_ids) const {
  if (longest_piece_ == 0 || max_ids > text.size() * kSpaceSymbol.size()) return false;
  const size_t spaces = static_cast<size_t>(std::count(text.begin(), text.end(), ' '));
  return (text.size() + spaces * (kSpaceSymbol.size() - 1)) / longest_piece_ > max_ids;
}

void BpeEncoder::LearnSymbols() {
  std::vector<std::pair<std::string_view, int32_t>> all, harmless;
  for (size_t i = 0; i < vocabulary_.pieces.size(); ++i) {
    const Piece& piece = vocabulary_.pieces[i];
    if (piece.type != PieceType::kUserDefined) continue;
    all.emplace_back(piece.text, static_cast<int32_t>(i));
    if (!piece.special) harmless.push_back(all.back());
  }
  all_symbols_ = SymbolTrie(std::move(all));
  harmless_symbols_ = SymbolTrie(std::move(harmless));
}

// An unused piece can come out of merges when it can be cut into two parts that are characters or
// pieces.
bool BpeEncoder::AnyUnusedReachable() const {
  const auto is_symbol = [this](std::string_view part) {
    return Utf8CharacterLength(part) == part.size() || pieces_.FindUnpadded(part).id >= 0;
  };
  for (const Piece& piece : vocabulary_.pieces) {
    if (piece.type != PieceType::kUnused) continue;
    const std::string_view text = piece.text;
    if (Utf8CharacterLength(text) == text.size()) return true;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if (is_symbol(text.substr(0, cut)) && is_symbol(text.substr(cut))) return true;
    }
  }
  return false;
}

bool BpeEncoder::Encode(std::string_view text, bool parse_special, size_t max_ids,
                        std::vector<int32_t>& ids) const {
  if (CertainlyOver(text, max_ids)) return false;
  const SymbolTrie& symbols = parse_special ? all_symbols_ : harmless_symbols_;
  std::string normalized = Normalize(text, symbols);
  TANDEM_CHECK(normalized.size() <= UINT32_MAX);
  const size_t size = normalized.size();
  normalized.resize(size + PieceTable::kReadAhead);
  const std::string_view rest(normalized.data(), size);
  ids.reserve(ids.size() + std::min(size / 3, max_ids));

  Word word(rest, ids);
  bool after_space = true;
  for (size_t at = 0; at < size;) {
    const SymbolTrie::Match match = symbols.LongestMatch(rest.substr(at));
    if (ids.size() > max_ids) return false;
    if (match.length > 0) {
      if (unused_reachable_) {
        word.AddFrozen(at, match.length, match.id);
      } else {
        Merge(word);
        EmitId(rest.substr(at, match.length), match.id, word);
      }
      at += match.length;
      continue;
    }
    const size_t length = Utf8AnnouncedLength(rest[at]);
    const bool is_space = rest[at] == kSpaceSymbol[0] && rest.substr(at, length) == kSpaceSymbol;
    if (is_space && !after_space && cut_before_space_ && !unused_reachable_) Merge(word);
    after_space = is_space;
    word.Add(at, length);
    at += length;
  }
  Merge(word);
  return ids.size() <= max_ids;
}

void BpeEncoder::Merge(Word& word) const {
  if (word.symbols.empty()) return;
  if (word.symbols.size() <= kSmallWord && !unused_reachable_) {
    MergeSmall(word);
  } else {
    MergeWithQueue(word);
  }
  Emit(word);
  word.symbols.clear();
}

// The obvious way: join the best pair until there is none. Quadratic, so for short words only.
void BpeEncoder::MergeSmall(Word& word) const {
  std::vector<Symbol>& symbols = word.symbols;
  std::array<PieceTable::Entry, kSmallWord> pairs;  // pairs[i]: what symbols i and i + 1 make
  size_t count = symbols.size();
  const auto look_up = [&](size_t i) {
    return pieces_.Find(word.Text(symbols[i].begin, symbols[i].size + symbols[i + 1].size));
  };
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = look_up(i);
  while (count > 1) {
    size_t best = count;
    for (size_t i = 0; i + 1 < count; ++i) {
      if (pairs[i].id >= 0 && (best == count || pairs[i].score > pairs[best].score)) best = i;
    }
    if (best == count) break;
    symbols[best].size += symbols[best + 1].size;
    symbols[best].id = pairs[best].id;
    --count;
    for (size_t i = best + 1; i < count; ++i) symbols[i] = symbols[i + 1];
    for (size_t i = best + 1; i + 1 < count; ++i) pairs[i] = pairs[i + 1];
    if (best + 1 < count) pairs[best] = look_up(best);
    if (best > 0) pairs[best - 1] = look_up(best - 1);
  }
  symbols.resize(count);
}

void BpeEncoder::MergeWithQueue(Word& word) const {
  std::vector<Symbol>& symbols = word.symbols;
  MergeQueue queue;
  const auto propose = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0 || symbols[left].frozen || symbols[right].frozen) return;
    const uint32_t size = symbols[left].size + symbols[right].size;
    const std::string_view text = word.Text(symbols[left].begin, size);
    const PieceTable::Entry entry = pieces_.Find(text);
    if (entry.id < 0) return;
    queue.Push({entry.score, left, right, size, entry.id});
    if (unused_reachable_ && vocabulary_.pieces[entry.id].type == PieceType::kUnused) {
      word.cuts[text] = symbols[left].size;
    }
  };
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
  }
  for (int32_t i = 1; i < count; ++i) propose(i - 1, i);
  while (!queue.empty()) {
    const MergeQueue::Pair top = queue.Pop();
    Symbol& left = symbols[top.left];
    Symbol& right = symbols[top.right];
    // One of the two went into another symbol since.
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) continue;
    left.size = top.size;
    left.id = top.id;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = top.left;
    right.size = 0;
    propose(left.previous, top.left);
    propose(top.left, left.next);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.size == 0; });
}

void BpeEncoder::Emit(Word& word) const {
  for (const Symbol& symbol : word.symbols) {
    const std::string_view text = word.Text(symbol.begin, symbol.size);
    const int32_t id = symbol.id >= 0 ? symbol.id : IdOfCharacter(text);
    if (unused_reachable_ && id >= 0 && vocabulary_.pieces[id].type == PieceType::kUnused) {
      EmitUnused(text, word);
    } else {
      EmitId(text, id, word);
    }
  }
}

// An unused piece comes apart into the pair that was last seen to make it, and so on down.
void BpeEncoder::EmitUnused(std::string_view text, Word& word) const {
  std::vector<std::string_view> parts = {text};
  while (!parts.empty()) {
    const std::string_view part = parts.back();
    parts.pop_back();
    const int32_t id = pieces_.Find(part).id;
    const auto cut = word.cuts.find(part);
    if (id < 0 || vocabulary_.pieces[id].type != PieceType::kUnused || cut == word.cuts.end()) {
      EmitId(part, id, word);
      continue;
    }
    parts.push_back(cut->first.substr(cut->second));
    parts.push_back(cut->first.substr(0, cut->second));
  }
}

void BpeEncoder::EmitId(std::string_view text, int32_t id, Word& word) const {
  if (id >= 0) {
    word.ids.push_back(id);
    word.after_unknown = false;
    return;
  }
  if (vocabulary_.byte_fallback) {
    for (char byte : text) word.ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
    return;
  }
  // A run of unknown characters is one unk.
  if (!word.after_unknown) word.ids.push_back(vocabulary_.unk_id);
  word.after_unknown = true;
}

int32_t BpeEncoder::IdOfCharacter(std::string_view character) const {
  const auto lead = static_cast<unsigned char>(character[0]);
  return lead < ascii_ids_.size() ? ascii_ids_[lead] : pieces_.Find(character).id;
}

std::string BpeEncoder::Normalize(std::string_view text, const SymbolTrie& symbols) const {
  if (text.empty()) return {};
  if (vocabulary_.remove_extra_whitespaces) return NormalizeExtraSpaces(text, symbols);
  std::string out;
  out.reserve(text.size() + text.size() / 2 + PieceTable::kReadAhead);
  if (vocabulary_.add_dummy_prefix) out.append(kSpaceSymbol);
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    size_t length = 1;
    if (c == ' ') {
      out.append(kSpaceSymbol);
    } else if (static_cast<unsigned char>(c) < 0x80) {
      out.push_back(c);
    } else if (length = Utf8CharacterLength(text.substr(at)); length > 0) {
      out.append(text.substr(at, length));
    } else {
      out.append(kReplacementCharacter);
      length = 1;
    }
    at += length;
  }
  return out;
}

// With remove_extra_whitespaces: spaces at both ends go, several become one. User-defined symbols
// are one character here.
std::string BpeEncoder::NormalizeExtraSpaces(std::string_view text,
                                             const SymbolTrie& symbols) const {
  const auto next = [&](std::string_view rest) -> std::pair<std::string_view, size_t> {
    if (const size_t length = symbols.LongestMatch(rest).length; length > 0)
      return {rest.substr(0, length), length};
    if (const size_t length = Utf8CharacterLength(rest); length > 0)
      return {rest.substr(0, length), length};
    return {kReplacementCharacter, 1};
  };
  while (!text.empty() && next(text).first == " ") text.remove_prefix(1);
  if (text.empty()) return {};
  std::string out;
  if (vocabulary_.add_dummy_prefix) out.append(kSpaceSymbol);
  bool after_space = true;
  while (!text.empty()) {
    auto [part, taken] = next(text);
    while (after_space && part.starts_with(' ')) part.remove_prefix(1);
    for (char c : part) {
      if (c == ' ') {
        out.append(kSpaceSymbol);
      } else {
        out.push_back(c);
      }
    }
    if (!part.empty()) after_space = part.ends_with(' ');
    text.remove_prefix(taken);
  }
  while (out.ends_with(kSpaceSymbol)) out.resize(out.size() - kSpaceSymbol.size());
  return out;
}

}  // namespace tandem
