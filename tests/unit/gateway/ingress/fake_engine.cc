#include "tests/unit/gateway/ingress/fake_engine.h"

#include <chrono>
#include <cstdio>
#include <utility>

#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::chrono::minutes kPatience{1};

Vocabulary MakeVocabulary() {
  Vocabulary vocabulary;
  const auto add = [&vocabulary](std::string text, PieceType type, bool special = false,
                                 float score = 0) {
    vocabulary.pieces.push_back(
        {.text = std::move(text), .score = score, .type = type, .special = special});
  };
  add("<pad>", PieceType::kControl);
  add("<eos>", PieceType::kControl);
  add("<bos>", PieceType::kControl);
  add("<unk>", PieceType::kUnknown);
  add("<start_of_turn>", PieceType::kUserDefined, true);
  add("<end_of_turn>", PieceType::kUserDefined, true);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    add(text, PieceType::kByte);
  }
  float score = -1;
  for (const char* word :
       {"He", "ll", "Hell", "Hello", "\u2581w", "or", "\u2581wor", "ld", "\u2581world"}) {
    add(word, PieceType::kNormal, false, score--);
  }
  for (char c = 33; c < 127; ++c) add(std::string(1, c), PieceType::kNormal, false, score--);
  add("\n", PieceType::kNormal, false, score--);
  add("\u2581", PieceType::kNormal, false, score--);
  vocabulary.pad_id = 0;
  vocabulary.eos_id = 1;
  vocabulary.bos_id = 2;
  vocabulary.unk_id = 3;
  return vocabulary;
}

}  // namespace

std::shared_ptr<const Tokenizer> TestTokenizer() {
  static const std::shared_ptr<const Tokenizer> tokenizer = [] {
    auto created = Tokenizer::Create(MakeVocabulary());
    TANDEM_CHECK(created.ok());
    return *created;
  }();
  return tokenizer;
}

std::int32_t Id(std::string_view piece) {
  const std::int32_t id = TestTokenizer()->IdOf(piece);
  TANDEM_CHECK(id != kNoPiece);
  return id;
}

absl::Status FakeEngine::Ready() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ready_;
}

absl::StatusOr<std::uint64_t> FakeEngine::Submit(GenerationRequest request,
                                                 std::shared_ptr<GenerationSink> sink) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!refusal_.ok()) return refusal_;
  std::size_t open = 0;
  for (const auto& other : requests_) open += other->sink != nullptr;
  if (open >= most_) return absl::ResourceExhaustedError("the queue is full");
  auto entry = std::make_unique<Request>();
  entry->request = std::move(request);
  entry->sink = std::move(sink);
  requests_.push_back(std::move(entry));
  changed_.notify_all();
  return requests_.size();
}

void FakeEngine::Cancel(std::uint64_t handle) {
  std::shared_ptr<GenerationSink> sink;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Request& entry = *requests_.at(handle - 1);
    entry.cancelled = true;
    sink = std::move(entry.sink);
    changed_.notify_all();
  }
  if (sink != nullptr) sink->OnFinish(FinishReason::kCancelled, absl::CancelledError("cancelled"));
}

void FakeEngine::SetReady(absl::Status ready) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ready_ = std::move(ready);
}

void FakeEngine::SetQueue(std::size_t most) {
  const std::lock_guard<std::mutex> lock(mutex_);
  most_ = most;
}

void FakeEngine::RefuseWith(absl::Status status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  refusal_ = std::move(status);
}

FakeEngine::Request& FakeEngine::WaitLocked(std::unique_lock<std::mutex>& lock,
                                            std::uint64_t handle) {
  TANDEM_CHECK(changed_.wait_for(lock, kPatience, [&] { return requests_.size() >= handle; }));
  return *requests_[handle - 1];
}

GenerationRequest FakeEngine::WaitForRequest(std::uint64_t handle) {
  std::unique_lock<std::mutex> lock(mutex_);
  return WaitLocked(lock, handle).request;
}

void FakeEngine::WaitForCancel(std::uint64_t handle) {
  std::unique_lock<std::mutex> lock(mutex_);
  const Request& entry = WaitLocked(lock, handle);
  TANDEM_CHECK(changed_.wait_for(lock, kPatience, [&] { return entry.cancelled; }));
}

std::size_t FakeEngine::submitted() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return requests_.size();
}

std::shared_ptr<GenerationSink> FakeEngine::SinkOf(std::uint64_t handle) {
  std::unique_lock<std::mutex> lock(mutex_);
  return WaitLocked(lock, handle).sink;
}

void FakeEngine::Scores(std::uint64_t handle, std::vector<SampledToken> scores) {
  if (const auto sink = SinkOf(handle)) sink->OnPromptScores(std::move(scores));
}

void FakeEngine::Pooled(std::uint64_t handle, std::vector<float> mean) {
  if (const auto sink = SinkOf(handle)) sink->OnPooled(std::move(mean));
}

void FakeEngine::Token(std::uint64_t handle, SampledToken token) {
  if (const auto sink = SinkOf(handle)) sink->OnToken(token);
}

void FakeEngine::Tokens(std::uint64_t handle, const std::vector<std::int32_t>& tokens) {
  for (const std::int32_t token : tokens) {
    Token(handle, {.token = token, .logprob = -0.5f, .top = {}});
  }
}

void FakeEngine::Finish(std::uint64_t handle, FinishReason reason, absl::Status status) {
  std::shared_ptr<GenerationSink> sink;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    sink = std::move(WaitLocked(lock, handle).sink);
  }
  if (sink != nullptr) sink->OnFinish(reason, status);
}

}  // namespace tandem
