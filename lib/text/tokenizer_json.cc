#include "lib/text/tokenizer_json.h"

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;

absl::Status Invalid(std::string_view where, std::string_view expected, const Json& found) {
  std::string shown = found.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 80) shown = Cat(shown.substr(0, 80), "...");
  return absl::InvalidArgumentError(Cat(where, ": expected ", expected, ", found ", shown));
}

// The member, or null where there is none.
const Json& Member(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

std::string TypeOf(const Json& object) {
  const Json& type = Member(object, "type");
  return type.is_string() ? type.get<std::string>() : std::string();
}

absl::StatusOr<bool> ReadFlag(const Json& object, const char* name, bool otherwise,
                              std::string_view where) {
  const Json& flag = Member(object, name);
  if (flag.is_null()) return otherwise;
  if (!flag.is_boolean()) return Invalid(Cat(where, ".", name), "a boolean", flag);
  return flag.get<bool>();
}

absl::StatusOr<size_t> ReadId(const Json& value, std::string_view where) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= kMaxPieces) {
    return Invalid(where, Cat("an id below ", kMaxPieces), value);
  }
  return static_cast<size_t>(value.get<uint64_t>());
}

// One vocabulary may list every way to cut every piece.
constexpr size_t kMaxMerges = 16 * kMaxPieces;

class Reader {
 public:
  explicit Reader(const Json& root) : root_(root), model_(Member(root, "model")) {}

  absl::StatusOr<Vocabulary> Read() {
    TANDEM_RETURN_IF_ERROR(CheckModel());
    TANDEM_RETURN_IF_ERROR(ReadPieces());
    TANDEM_RETURN_IF_ERROR(ReadAddedTokens());
    TANDEM_RETURN_IF_ERROR(CheckGaps());
    TANDEM_RETURN_IF_ERROR(ReadMerges());
    TANDEM_RETURN_IF_ERROR(ReadNormalizer(Member(root_, "normalizer")));
    TANDEM_RETURN_IF_ERROR(ReadPreTokenizer(Member(root_, "pre_tokenizer")));
    TANDEM_RETURN_IF_ERROR(SettleTypes());
    TANDEM_RETURN_IF_ERROR(vocabulary_.Validate());
    return std::move(vocabulary_);
  }

 private:
  absl::Status CheckModel();
  absl::Status ReadPieces();
  absl::Status ReadAddedTokens();
  absl::Status CheckGaps() const;
  absl::Status ReadMerges();
  absl::StatusOr<std::pair<std::string, std::string>> ReadMerge(const Json& merge,
                                                                size_t rank) const;
  absl::Status ReadNormalizer(const Json& normalizer);
  absl::Status ReadPreTokenizer(const Json& splitter);
  absl::Status SettleTypes();
  absl::Status PutPiece(size_t id, const std::string& text, std::string_view where);

  const Json& root_;
  const Json& model_;
  Vocabulary vocabulary_;
  std::unordered_map<std::string, size_t> ids_;
  std::vector<bool> added_;  // by id: is an added token
};

absl::Status Reader::CheckModel() {
  if (!model_.is_object()) return Invalid("model", "an object", model_);
  // Files of before the member was written have none.
  const Json& type = Member(model_, "type");
  if (!type.is_null() && type != "BPE") {
    return absl::UnimplementedError(Cat("model.type: expected BPE, found ", type.dump()));
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& affix = Member(model_, name);
    if (!affix.is_null() && affix != "") {
      return absl::UnimplementedError(Cat("model.", name, ": expected none, found ", affix.dump()));
    }
  }
  TANDEM_ASSIGN_OR_RETURN(vocabulary_.byte_fallback,
                          ReadFlag(model_, "byte_fallback", false, "model"));
  return absl::OkStatus();
}

absl::Status Reader::PutPiece(size_t id, const std::string& text, std::string_view where) {
  if (id >= vocabulary_.pieces.size()) {
    vocabulary_.pieces.resize(id + 1);
    added_.resize(id + 1);
  }
  std::string& slot = vocabulary_.pieces[id].text;
  if (!slot.empty() && slot != text) {
    return absl::InvalidArgumentError(
        Cat(where, ": expected id ", id, " for one text, found '", slot, "' and '", text, "'"));
  }
  slot = text;
  const auto [at, fresh] = ids_.emplace(text, id);
  if (!fresh && at->second != id) {
    return absl::InvalidArgumentError(
        Cat(where, ": expected one id for '", text, "', found ", at->second, " and ", id));
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadPieces() {
  const Json& vocab = Member(model_, "vocab");
  if (!vocab.is_object()) return Invalid("model.vocab", "an object", vocab);
  // The ids of a vocabulary have no gaps, so none is much larger than the number of entries. That
  // also bounds the memory.
  const size_t limit = vocab.size() + Member(root_, "added_tokens").size();
  vocabulary_.pieces.reserve(limit);
  ids_.reserve(limit);
  for (const auto& [text, value] : vocab.items()) {
    TANDEM_ASSIGN_OR_RETURN(const size_t id, ReadId(value, "model.vocab"));
    if (id >= limit)
      return Invalid("model.vocab", Cat("ids below ", limit, ", without gaps"), value);
    TANDEM_RETURN_IF_ERROR(PutPiece(id, text, "model.vocab"));
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadAddedTokens() {
  const Json& tokens = Member(root_, "added_tokens");
  if (tokens.is_null()) return absl::OkStatus();
  if (!tokens.is_array()) return Invalid("added_tokens", "an array", tokens);
  const size_t limit = Member(model_, "vocab").size() + tokens.size();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string where = Cat("added_tokens[", i, "]");
    const Json& content = Member(tokens[i], "content");
    if (!content.is_string()) return Invalid(Cat(where, ".content"), "a string", content);
    TANDEM_ASSIGN_OR_RETURN(const size_t id, ReadId(Member(tokens[i], "id"), Cat(where, ".id")));
    if (id >= limit) return Invalid(Cat(where, ".id"), Cat("an id below ", limit), tokens[i]);
    const auto text = content.get<std::string>();
    TANDEM_RETURN_IF_ERROR(PutPiece(id, text, where));
    TANDEM_ASSIGN_OR_RETURN(const bool special, ReadFlag(tokens[i], "special", false, where));
    added_[id] = true;
    Piece& piece = vocabulary_.pieces[id];
    piece.type = PieceType::kUserDefined;
    piece.special = special || IsGemmaMarker(text);
  }
  return absl::OkStatus();
}

absl::Status Reader::CheckGaps() const {
  for (size_t id = 0; id < vocabulary_.pieces.size(); ++id) {
    if (!vocabulary_.pieces[id].text.empty()) continue;
    return absl::InvalidArgumentError(
        Cat("model.vocab: expected a piece with id ", id, ", found none"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::pair<std::string, std::string>> Reader::ReadMerge(const Json& merge,
                                                                      size_t rank) const {
  const std::string where = Cat("model.merges[", rank, "]");
  if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      return Invalid(where, "two pieces with one space between", merge);
    }
    return std::make_pair(text.substr(0, space), text.substr(space + 1));
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
    return Invalid(where, "two pieces", merge);
  }
  return std::make_pair(merge[0].get<std::string>(), merge[1].get<std::string>());
}

absl::Status Reader::ReadMerges() {
  const Json& merges = Member(model_, "merges");
  if (!merges.is_array()) return Invalid("model.merges", "an array", merges);
  if (merges.size() > kMaxMerges) {
    return absl::InvalidArgumentError(
        Cat("model.merges: expected at most ", kMaxMerges, ", found ", merges.size()));
  }
  for (Piece& piece : vocabulary_.pieces) piece.score = -static_cast<float>(merges.size() + 1);
  std::vector<bool> scored(vocabulary_.pieces.size());
  // Counting pieces rather than merges keeps the scores whole numbers that a float holds exactly.
  size_t made = 0;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    TANDEM_ASSIGN_OR_RETURN(const auto parts, ReadMerge(merges[rank], rank));
    const auto piece = ids_.find(parts.first + parts.second);
    if (piece == ids_.end() || !ids_.contains(parts.first) || !ids_.contains(parts.second)) {
      return Invalid(Cat("model.merges[", rank, "]"), "two pieces that make a third", merges[rank]);
    }
    if (scored[piece->second]) continue;
    scored[piece->second] = true;
    vocabulary_.pieces[piece->second].score = -static_cast<float>(made++);
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadNormalizer(const Json& normalizer) {
  if (normalizer.is_null()) return absl::OkStatus();
  const std::string type = TypeOf(normalizer);
  if (type == "Sequence") {
    const Json& parts = Member(normalizer, "normalizers");
    if (!parts.is_array()) return Invalid("normalizer.normalizers", "an array", parts);
    for (const Json& part : parts) {
      if (TypeOf(part) == "Sequence")
        return Invalid("normalizer.normalizers", "no sequence inside another", part);
      TANDEM_RETURN_IF_ERROR(ReadNormalizer(part));
    }
    return absl::OkStatus();
  }
  const std::string space(kSpaceSymbol);
  if (type == "Replace" && Member(Member(normalizer, "pattern"), "String") == " " &&
      Member(normalizer, "content") == space) {
    return absl::OkStatus();
  }
  if (type == "Prepend" && Member(normalizer, "prepend") == space) {
    vocabulary_.add_dummy_prefix = true;
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      Cat("normalizer: expected Replace of ' ' by U+2581 or Prepend of U+2581, found ",
          normalizer.dump(-1, ' ', true, Json::error_handler_t::replace)));
}

absl::Status Reader::ReadPreTokenizer(const Json& splitter) {
  if (splitter.is_null()) return absl::OkStatus();
  const std::string type = TypeOf(splitter);
  // After the normalizer there are no spaces left to split at.
  if (type == "Split" && Member(Member(splitter, "pattern"), "String") == " ")
    return absl::OkStatus();
  if (type == "Metaspace" && Member(splitter, "replacement") == std::string(kSpaceSymbol) &&
      Member(splitter, "split") != true) {
    const Json& scheme = Member(splitter, "prepend_scheme");
    if (scheme == "first" || scheme == "always") {
      vocabulary_.add_dummy_prefix = true;
      return absl::OkStatus();
    }
    if (scheme == "never") return absl::OkStatus();
  }
  return absl::UnimplementedError(
      Cat("pre_tokenizer: expected none, Split at ' ' or Metaspace, found ",
          splitter.dump(-1, ' ', true, Json::error_handler_t::replace)));
}

absl::Status Reader::SettleTypes() {
  const auto control = [this](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      const auto found = ids_.find(name);
      if (found == ids_.end() || !added_[found->second]) continue;
      Piece& piece = vocabulary_.pieces[found->second];
      piece.type = PieceType::kControl;
      piece.special = false;
      return static_cast<int32_t>(found->second);
    }
    return kNoPiece;
  };
  vocabulary_.bos_id = control({"<bos>", "<s>"});
  vocabulary_.eos_id = control({"<eos>", "</s>"});
  vocabulary_.pad_id = control({"<pad>"});
  vocabulary_.add_bos = vocabulary_.bos_id != kNoPiece;

  const Json& unk = Member(model_, "unk_token");
  const auto found = unk.is_string() ? ids_.find(unk.get<std::string>()) : ids_.end();
  if (found == ids_.end()) return Invalid("model.unk_token", "a piece of the vocabulary", unk);
  vocabulary_.unk_id = static_cast<int32_t>(found->second);
  vocabulary_.pieces[found->second].type = PieceType::kUnknown;
  vocabulary_.pieces[found->second].special = false;

  if (!vocabulary_.byte_fallback) return absl::OkStatus();
  for (Piece& piece : vocabulary_.pieces) {
    if (piece.type == PieceType::kNormal && ByteOfPiece(piece.text) >= 0)
      piece.type = PieceType::kByte;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Vocabulary> ReadTokenizerJson(std::string_view text) {
  const absl::StatusOr<Json> root = ParseJson(text);
  if (!root.ok()) return Annotate(root.status(), "tokenizer.json");
  absl::StatusOr<Vocabulary> vocabulary = Reader(*root).Read();
  if (!vocabulary.ok()) return Annotate(vocabulary.status(), "tokenizer.json");
  return vocabulary;
}

}  // namespace tandem
