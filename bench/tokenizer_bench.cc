// Encoding speed of lib/text beside libsentencepiece's, in one process and on the same texts:
//   tokenizer_bench [TOKENIZER_MODEL [TEXT_FILE]]
// Without arguments: the golden tokenizer and one of Gemma's size made from it, over the
// repository's own text. Runs in the repository's root. Links neither protobuf nor gRPC (see
// lib/text/tokenizer.h).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lib/text/sentencepiece_model.h"
#include "lib/text/tokenizer.h"
#include "tests/unit/lib/text/random_text.h"
#include "tests/unit/lib/text/sentencepiece_oracle.h"
#include "tests/unit/lib/text/vocabulary_files.h"

namespace tandem {
namespace {

constexpr size_t kGemmaPieces = 262'144;
constexpr int kRounds = 5;

double Seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Text {
  std::string name;
  std::string bytes;
};

// The repository's text files one after the other, about 4 MB: repeated when there is less.
std::string RepositoryText() {
  constexpr size_t kSize = size_t{4} << 20;
  std::string once;
  std::vector<std::filesystem::path> paths;
  for (const char* folder :
       {"lib", "loader", "gateway", "gpu-worker", "npu-worker", "cli", "docs", "tests/unit"}) {
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file() && entry.file_size() < 100'000) paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) once += ReadFile(path).value_or("");
  std::string text;
  while (text.size() < kSize && !once.empty()) text += once;
  text.resize(std::min(text.size(), kSize));
  return text;
}

// `vocabulary` filled up to Gemma's size with pieces that join two others.
Vocabulary GemmaSized(Vocabulary vocabulary) {
  std::unordered_set<std::string> texts;
  std::vector<std::string> parts;
  for (const Piece& piece : vocabulary.pieces) {
    texts.insert(piece.text);
    if (piece.type == PieceType::kNormal) parts.push_back(piece.text);
  }
  std::mt19937 random(1);
  while (vocabulary.pieces.size() < kGemmaPieces) {
    std::string right = parts[random() % parts.size()];
    if (right.starts_with(kSpaceSymbol)) right.erase(0, kSpaceSymbol.size());
    std::string text = parts[random() % parts.size()] + right;
    if (text.size() > 24 || !texts.insert(text).second) continue;
    AddMerged(vocabulary, text);
  }
  return vocabulary;
}

std::vector<Text> Texts(const Vocabulary& vocabulary) {
  std::vector<Text> texts = {{"repository", RepositoryText()}};
  RandomText random(vocabulary, texts[0].bytes, 1);
  std::string mixed;
  while (mixed.size() < (size_t{1} << 20)) mixed += random.Next();
  texts.push_back({"random, any script", std::move(mixed)});
  std::string word;
  while (word.size() < (size_t{1} << 20)) word += "inthe";
  texts.push_back({"one word of 1 MiB", std::move(word)});
  return texts;
}

// 0, or 1 when the two disagree or the library refuses.
int Measure(const std::string& name, const std::string& model, const std::vector<Text>& texts) {
  std::shared_ptr<const Tokenizer> ours;
  std::unique_ptr<SentencePieceOracle> library;
  std::string error;
  const double our_load = Seconds([&] {
    auto vocabulary = ReadSentencePieceModel(model);
    if (!vocabulary.ok()) return;
    auto created = Tokenizer::Create(*std::move(vocabulary));
    if (created.ok()) ours = *std::move(created);
  });
  const double library_load = Seconds([&] { library = SentencePieceOracle::Load(model, error); });
  if (!ours || !library) {
    std::fprintf(stderr, "%s: cannot load the model %s\n", name.c_str(), error.c_str());
    return 1;
  }
  std::printf("%s: %zu pieces; load: library %.0f ms, ours %.0f ms\n", name.c_str(), ours->size(),
              library_load * 1e3, our_load * 1e3);
  std::printf("  %-20s %8s %8s %14s %12s %7s\n", "text", "MB", "tokens", "library MB/s",
              "ours MB/s", "ratio");
  for (const Text& text : texts) {
    double library_best = 1e9, our_best = 1e9;
    std::vector<int> expected;
    std::vector<int32_t> found;
    for (int round = 0; round < kRounds; ++round) {
      expected.clear();
      library_best =
          std::min(library_best, Seconds([&] { library->Encode(text.bytes, expected); }));
      our_best = std::min(
          our_best, Seconds([&] { found = ours->Encode(text.bytes, {.parse_special = true}); }));
    }
    const double megabytes = static_cast<double>(text.bytes.size()) / 1e6;
    std::printf("  %-20s %8.2f %8zu %14.2f %12.2f %6.1fx\n", text.name.c_str(), megabytes,
                found.size(), megabytes / library_best, megabytes / our_best,
                library_best / our_best);
    if (found != expected) {
      std::fprintf(stderr, "%s, %s: the ids differ\n", name.c_str(), text.name.c_str());
      return 1;
    }
  }
  return 0;
}

int Main(int argc, char** argv) {
  std::string name = argc > 1 ? argv[1] : "golden small1b";
  auto model = argc > 1 ? ReadFile(argv[1]) : ReadGoldenFile("small1b", "tokenizer.model");
  if (!model) {
    std::fprintf(stderr, "%s: cannot read tokenizer.model\n", name.c_str());
    return 1;
  }
  auto vocabulary = ReadSentencePieceModel(*model);
  if (!vocabulary.ok()) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), vocabulary.status().ToString().c_str());
    return 1;
  }
  std::vector<Text> texts;
  if (argc > 2) {
    auto bytes = ReadFile(argv[2]);
    if (!bytes) {
      std::fprintf(stderr, "%s: cannot read the file\n", argv[2]);
      return 1;
    }
    texts.push_back({argv[2], *std::move(bytes)});
  } else {
    texts = Texts(*vocabulary);
  }
  if (Measure(name, *model, texts) != 0) return 1;
  if (argc > 1) return 0;
  return Measure("of Gemma's size", WriteSentencePieceModel(GemmaSized(*std::move(vocabulary))),
                 texts);
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main(argc, argv); }
