#include "tests/unit/lib/text/vocabulary_files.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <unordered_map>

#include "nlohmann/json.hpp"

namespace tandem {
namespace {

void AppendVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void AppendNumber(std::string& out, uint32_t field, uint64_t value) {
  AppendVarint(out, field << 3);
  AppendVarint(out, value);
}

void AppendBytes(std::string& out, uint32_t field, std::string_view bytes) {
  AppendVarint(out, field << 3 | 2);
  AppendVarint(out, bytes.size());
  out.append(bytes);
}

void AppendFloat(std::string& out, uint32_t field, float value) {
  AppendVarint(out, field << 3 | 5);
  char bits[sizeof(value)];
  std::memcpy(bits, &value, sizeof(value));
  out.append(bits, sizeof(bits));
}

struct Merge {
  float score;
  std::string left, right;
};

std::vector<Merge> MergesOf(const Vocabulary& vocabulary) {
  std::unordered_map<std::string_view, PieceType> types;
  for (const Piece& piece : vocabulary.pieces) types.emplace(piece.text, piece.type);
  const auto is_part = [&](std::string_view text) {
    const auto found = types.find(text);
    return found != types.end() && found->second == PieceType::kNormal;
  };
  std::vector<Merge> merges;
  for (const Piece& piece : vocabulary.pieces) {
    if (piece.type != PieceType::kNormal) continue;
    const std::string_view text = piece.text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if (!is_part(text.substr(0, cut)) || !is_part(text.substr(cut))) continue;
      merges.push_back(
          {piece.score, std::string(text.substr(0, cut)), std::string(text.substr(cut))});
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.score > b.score; });
  return merges;
}

}  // namespace

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::optional<std::string> ReadGoldenFile(std::string_view set, std::string_view name) {
  std::vector<std::string> roots = {"tests/golden/data", "../shared/golden"};
  if (const char* root = std::getenv("TANDEM_GOLDEN_DIR")) roots.insert(roots.begin(), root);
  for (const std::string& root : roots) {
    std::string path = root;
    path.append("/").append(set).append("/").append(name);
    if (auto bytes = ReadFile(path)) return bytes;
  }
  return std::nullopt;
}

void AddMerged(Vocabulary& vocabulary, std::string_view text) {
  const auto rank = static_cast<float>(vocabulary.pieces.size());
  vocabulary.pieces.push_back({std::string(text), -rank});
}

Vocabulary SmallVocabulary() {
  Vocabulary vocabulary;
  const auto add = [&](std::string text, PieceType type, bool special = false) {
    vocabulary.pieces.push_back({std::move(text), 0.0f, type, special});
  };
  add("<pad>", PieceType::kControl);
  add("<eos>", PieceType::kControl);
  add("<bos>", PieceType::kControl);
  add("<unk>", PieceType::kUnknown);
  vocabulary.pad_id = 0;
  vocabulary.eos_id = 1;
  vocabulary.bos_id = 2;
  vocabulary.unk_id = 3;
  add("<start_of_turn>", PieceType::kUserDefined, true);
  add("<end_of_turn>", PieceType::kUserDefined, true);
  for (const char* symbol : {"\n", "\n\n", "\n\n\n", "\t", "▁▁", "▁▁▁", "<h1>"}) {
    add(symbol, PieceType::kUserDefined);
  }
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    add(text, PieceType::kByte);
  }
  for (const char* text :
       {"▁t", "he",   "▁the", "in",  "er",     "on",     "▁a", "▁the▁", "lo",  "▁w",    "ou",  "el",
        "or", "▁wor", "ld",   "llo", "▁world", "▁hello", "us", "user",  "mod", "model", "日本"}) {
    AddMerged(vocabulary, text);
  }
  for (char c = '!'; c <= '~'; ++c) AddMerged(vocabulary, std::string(1, c));
  for (const char* text : {"▁", "é", "ï", "日", "本", "語", "🙂"}) AddMerged(vocabulary, text);
  return vocabulary;
}

std::string WriteSentencePieceModel(const Vocabulary& vocabulary) {
  std::string model;
  for (const Piece& piece : vocabulary.pieces) {
    std::string message;
    AppendBytes(message, 1, piece.text);
    AppendFloat(message, 2, piece.score);
    if (piece.type != PieceType::kNormal) {
      AppendNumber(message, 3, static_cast<uint64_t>(piece.type));
    }
    AppendBytes(model, 1, message);
  }
  const auto text_of = [&](int32_t id, std::string_view otherwise) {
    return id == kNoPiece ? std::string(otherwise) : vocabulary.pieces[id].text;
  };
  std::string trainer;
  AppendNumber(trainer, 3, 2);  // BPE
  AppendNumber(trainer, 35, vocabulary.byte_fallback ? 1 : 0);
  AppendBytes(trainer, 44, vocabulary.unk_surface);
  AppendBytes(trainer, 45, text_of(vocabulary.unk_id, "<unk>"));
  AppendBytes(trainer, 46, text_of(vocabulary.bos_id, "<no bos>"));
  AppendBytes(trainer, 47, text_of(vocabulary.eos_id, "<no eos>"));
  AppendBytes(trainer, 48, text_of(vocabulary.pad_id, "<no pad>"));
  AppendBytes(model, 2, trainer);
  std::string normalizer;
  AppendBytes(normalizer, 1, "identity");
  AppendNumber(normalizer, 3, vocabulary.add_dummy_prefix ? 1 : 0);
  AppendNumber(normalizer, 4, vocabulary.remove_extra_whitespaces ? 1 : 0);
  AppendBytes(model, 3, normalizer);
  return model;
}

std::string WriteTokenizerJson(const Vocabulary& vocabulary, MergeSpelling spelling) {
  nlohmann::json root;
  root["added_tokens"] = nlohmann::json::array();
  auto& model = root["model"];
  model["type"] = "BPE";
  model["byte_fallback"] = vocabulary.byte_fallback;
  model["unk_token"] = vocabulary.pieces[vocabulary.unk_id].text;
  model["vocab"] = nlohmann::json::object();
  model["merges"] = nlohmann::json::array();
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    model["vocab"][piece.text] = id;
    if (piece.type == PieceType::kNormal || piece.type == PieceType::kByte) continue;
    root["added_tokens"].push_back({{"id", id},
                                    {"content", piece.text},
                                    {"special", piece.type != PieceType::kUserDefined},
                                    {"normalized", false}});
  }
  for (const Merge& merge : MergesOf(vocabulary)) {
    if (spelling == MergeSpelling::kString) {
      model["merges"].push_back(merge.left + " " + merge.right);
    } else {
      model["merges"].push_back({merge.left, merge.right});
    }
  }
  const std::string space(kSpaceSymbol);
  root["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}};
  root["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"String", " "}}},
                           {"behavior", "MergedWithPrevious"},
                           {"invert", false}};
  return root.dump();
}

}  // namespace tandem
