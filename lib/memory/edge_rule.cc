#include "lib/memory/edge_rule.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// Whether the rows can be copied between the device's memory and the processor.
bool Inline(const MemoryDeclaration& end, std::uint64_t bytes) {
  if (end.host_pointer.import_bytes >= bytes) return true;
  return end.host_view && end.dma_buf.export_bytes >= bytes;
}

bool Works(HandleKind kind, const MemoryDeclaration& owner, const MemoryDeclaration& other,
           const EdgeQuestion& question) {
  const std::uint64_t bytes = question.ring_bytes;
  if (kind == HandleKind::kInline) return Inline(owner, bytes) && Inline(other, bytes);
  if (!question.same_host || other.owns_edges) return false;
  if (kind == HandleKind::kHostPointer)
    return owner.host_pointer.import_bytes >= bytes && other.host_pointer.import_bytes >= bytes;
  return owner.dma_buf.export_bytes >= bytes && other.dma_buf.import_bytes >= bytes;
}

std::vector<HandleKind> Workable(bool producer_owns, const EdgeQuestion& question) {
  const MemoryDeclaration& owner = producer_owns ? question.producer : question.consumer;
  const MemoryDeclaration& other = producer_owns ? question.consumer : question.producer;
  std::vector<HandleKind> kinds;
  for (const HandleKind kind : question.allowed) {
    if (Works(kind, owner, other, question)) kinds.push_back(kind);
  }
  return kinds;
}

std::size_t RankOf(const EdgeQuestion& question, const std::vector<HandleKind>& kinds) {
  std::size_t rank = 0;
  while (rank < question.allowed.size() && (kinds.empty() || question.allowed[rank] != kinds[0]))
    ++rank;
  return rank;
}

std::string SizeText(std::uint64_t bytes) {
  return bytes == MemoryAbility::kAny ? "" : absl::StrCat(" up to ", bytes >> 20, " MiB");
}

void Append(const MemoryAbility& ability, const char* name, std::string* text) {
  if (ability.import_bytes == 0 && ability.export_bytes == 0) return;
  absl::StrAppend(text, text->empty() ? "" : ", ", name, " (");
  if (ability.import_bytes != 0) absl::StrAppend(text, "imports", SizeText(ability.import_bytes));
  if (ability.import_bytes != 0 && ability.export_bytes != 0) absl::StrAppend(text, ", ");
  if (ability.export_bytes != 0) absl::StrAppend(text, "exports", SizeText(ability.export_bytes));
  absl::StrAppend(text, ")");
}

}  // namespace

absl::StatusOr<EdgeAgreement> AgreeOnEdge(const EdgeQuestion& question) {
  EdgeAgreement by_producer{true, Workable(true, question)};
  EdgeAgreement by_consumer{false, Workable(false, question)};
  const std::size_t producer_rank = RankOf(question, by_producer.kinds);
  const std::size_t consumer_rank = RankOf(question, by_consumer.kinds);
  if (by_producer.kinds.empty() && by_consumer.kinds.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("no kind of shared memory is left for a ring of ", question.ring_bytes,
                     " bytes: the producer has ", DeclarationText(question.producer),
                     "; the consumer has ", DeclarationText(question.consumer)));
  }
  if (producer_rank != consumer_rank)
    return producer_rank < consumer_rank ? by_producer : by_consumer;
  // Both could: an end that must own does.
  return question.consumer.owns_edges && !question.producer.owns_edges ? by_consumer : by_producer;
}

std::string DeclarationText(const MemoryDeclaration& declaration) {
  std::string text;
  Append(declaration.dma_buf, "dma-buf", &text);
  Append(declaration.host_pointer, "host-pointer", &text);
  if (declaration.owns_edges) absl::StrAppend(&text, text.empty() ? "" : ", ", "owns its edges");
  return text.empty() ? "nothing" : text;
}

}  // namespace tandem
