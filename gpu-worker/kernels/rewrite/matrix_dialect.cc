#include "gpu-worker/kernels/rewrite/matrix_dialect.h"

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem::kernels {
namespace {

// The numbers of the SPIR-V specification, of SPV_NV_cooperative_matrix and of
// SPV_KHR_cooperative_matrix.
constexpr std::uint32_t kMagic = 0x07230203;
constexpr std::size_t kHeaderWords = 5;
constexpr std::size_t kBoundWord = 3;
enum Opcode : std::uint16_t {
  kExtension = 10,
  kCapability = 17,
  kTypeInt = 21,
  kConstantTrue = 41,
  kConstantFalse = 42,
  kConstant = 43,
  kSpecConstantOp = 52,
  kDecorate = 71,
  kTypeMatrixKhr = 4456,
  kLoadKhr = 4457,
  kStoreKhr = 4458,
  kMulAddKhr = 4459,
  kLengthKhr = 4460,
  kTypeMatrixNv = 5358,
  kLoadNv = 5359,
  kStoreNv = 5360,
  kMulAddNv = 5361,
  kLengthNv = 5362,
};
constexpr std::uint32_t kDecorationSpecId = 1;
constexpr std::uint32_t kCapabilityNv = 5357;
constexpr std::uint32_t kCapabilityKhr = 6022;
constexpr std::string_view kExtensionNv = "SPV_NV_cooperative_matrix";
constexpr std::string_view kExtensionKhr = "SPV_KHR_cooperative_matrix";

// The operands of the KHR dialect are 0, 1 and 2: a matrix's use (A, B, accumulator), and row or
// column major.
constexpr std::uint32_t kOperands = 3;

using Words = std::vector<std::uint32_t>;

// A string as SPIR-V has it: four bytes a word, ended by a zero byte.
Words Literal(std::string_view text) {
  Words words(text.size() / 4 + 1, 0);
  std::memcpy(words.data(), text.data(), text.size());
  return words;
}

class Rewriter {
 public:
  explicit Rewriter(std::span<const std::uint32_t> spirv) : in_(spirv) {}

  absl::StatusOr<Words> Run() {
    if (in_.size() < kHeaderWords || in_[0] != kMagic) {
      return absl::InvalidArgumentError("expected a SPIR-V module");
    }
    TANDEM_RETURN_IF_ERROR(Each([this](auto instruction) { return Learn(instruction); }));
    if (!uint_type_.has_value()) {
      return absl::InvalidArgumentError("the module has no 32-bit unsigned integers");
    }
    out_.assign(in_.begin(), in_.begin() + kHeaderWords);
    for (std::uint32_t& id : operand_ids_) id = out_[kBoundWord]++;
    TANDEM_RETURN_IF_ERROR(Each([this](auto instruction) { return Write(instruction); }));
    return out_;
  }

 private:
  using Instruction = std::span<const std::uint32_t>;

  static std::uint16_t OpcodeOf(Instruction instruction) {
    return static_cast<std::uint16_t>(instruction[0] & 0xffff);
  }

  template <typename Visit>
  absl::Status Each(Visit visit) {
    for (std::size_t at = kHeaderWords; at < in_.size();) {
      const std::size_t count = in_[at] >> 16;
      if (count == 0 || count > in_.size() - at) {
        return absl::InvalidArgumentError(
            absl::StrCat("the instruction at word ", at, " does not end within the module"));
      }
      TANDEM_RETURN_IF_ERROR(visit(in_.subspan(at, count)));
      at += count;
    }
    return absl::OkStatus();
  }

  absl::Status Learn(Instruction words) {
    const std::uint16_t opcode = OpcodeOf(words);
    if (opcode == kDecorate && words.size() == 4 && words[2] == kDecorationSpecId) {
      spec_ids_[words[1]] = words[3];
    } else if (opcode == kTypeInt && words.size() == 4 && words[2] == 32 && words[3] == 0) {
      uint_type_ = words[1];
    } else if ((opcode == kConstantTrue || opcode == kConstantFalse) && words.size() == 3) {
      bools_[words[2]] = opcode == kConstantTrue;
    }
    return absl::OkStatus();
  }

  void Emit(std::uint16_t opcode, std::initializer_list<Instruction> pieces) {
    const std::size_t begin = out_.size();
    out_.push_back(0);
    for (const Instruction piece : pieces) out_.insert(out_.end(), piece.begin(), piece.end());
    out_[begin] = static_cast<std::uint32_t>((out_.size() - begin) << 16 | opcode);
  }

  // The operand that says what matrices of these dimensions are for.
  absl::StatusOr<std::uint32_t> UseOf(std::uint32_t rows, std::uint32_t columns) const {
    constexpr std::array<std::array<std::uint32_t, 2>, kOperands> kTags = {
        {{kRowsOfA, kColumnsOfA}, {kRowsOfB, kColumnsOfB}, {kRowsOfC, kColumnsOfC}}};
    const auto rows_id = spec_ids_.find(rows);
    const auto columns_id = spec_ids_.find(columns);
    for (std::size_t use = 0; use < kTags.size(); ++use) {
      if (rows_id != spec_ids_.end() && columns_id != spec_ids_.end() &&
          rows_id->second == kTags[use][0] && columns_id->second == kTags[use][1]) {
        return operand_ids_[use];
      }
    }
    return absl::InvalidArgumentError(
        "a matrix type has dimensions that are not specialisation constants 100 and 101 (A), 102 "
        "and 103 (B) or 104 and 105 (accumulator)");
  }

  absl::StatusOr<std::uint32_t> LayoutOf(std::uint32_t column_major) const {
    const auto found = bools_.find(column_major);
    if (found == bools_.end()) {
      return absl::InvalidArgumentError("a matrix is loaded or stored in an order that varies");
    }
    return operand_ids_[found->second ? 1 : 0];
  }

  // NV: type, result, pointer, stride, column major, rest. KHR: type, result, pointer, layout,
  // stride, rest. A store has no type and its result is the object behind the pointer.
  absl::Status WriteAccess(Instruction words, std::uint16_t opcode, std::size_t stride_at) {
    if (words.size() < stride_at + 2) return absl::InvalidArgumentError("a short matrix access");
    TANDEM_ASSIGN_OR_RETURN(const std::uint32_t layout, LayoutOf(words[stride_at + 1]));
    Emit(opcode, {words.subspan(1, stride_at - 1), Instruction(&layout, 1),
                  words.subspan(stride_at, 1), words.subspan(stride_at + 2)});
    return absl::OkStatus();
  }

  absl::Status Write(Instruction words) {
    const std::uint16_t opcode = OpcodeOf(words);
    const Instruction operands = words.subspan(1);
    switch (opcode) {
      case kCapability:
        if (words.size() == 2 && words[1] == kCapabilityNv) {
          Emit(opcode, {Instruction(&kCapabilityKhr, 1)});
          return absl::OkStatus();
        }
        break;
      case kExtension: {
        const Words nv = Literal(kExtensionNv);
        if (std::equal(operands.begin(), operands.end(), nv.begin(), nv.end())) {
          Emit(opcode, {Literal(kExtensionKhr)});
          return absl::OkStatus();
        }
        break;
      }
      case kTypeMatrixNv: {
        if (words.size() != 6) return absl::InvalidArgumentError("a short matrix type");
        TANDEM_ASSIGN_OR_RETURN(const std::uint32_t use, UseOf(words[4], words[5]));
        Emit(kTypeMatrixKhr, {operands, Instruction(&use, 1)});
        return absl::OkStatus();
      }
      case kLoadNv:
        return WriteAccess(words, kLoadKhr, 4);
      case kStoreNv:
        return WriteAccess(words, kStoreKhr, 3);
      case kMulAddNv:
        Emit(kMulAddKhr, {operands});
        return absl::OkStatus();
      case kLengthNv:
        Emit(kLengthKhr, {operands});
        return absl::OkStatus();
      case kSpecConstantOp: {
        // Type, result, the operation. Drivers know no length as a specialisation constant, some
        // crash.
        if (words.size() <= 3 || words[3] != kLengthNv) break;
        return absl::InvalidArgumentError("length() of a matrix outside functions");
      }
      default:
        break;
    }
    Emit(opcode, {operands});
    if (opcode == kTypeInt && words[1] == *uint_type_) {
      for (std::uint32_t value = 0; value < kOperands; ++value) {
        const std::uint32_t constant[] = {*uint_type_, operand_ids_[value], value};
        Emit(kConstant, {constant});
      }
    }
    return absl::OkStatus();
  }

  const std::span<const std::uint32_t> in_;
  Words out_;
  std::array<std::uint32_t, kOperands> operand_ids_{};
  std::optional<std::uint32_t> uint_type_;
  std::map<std::uint32_t, std::uint32_t> spec_ids_;  // by result id
  std::map<std::uint32_t, bool> bools_;              // by result id
};

}  // namespace

absl::StatusOr<std::vector<std::uint32_t>> ToKhrMatrices(std::span<const std::uint32_t> spirv) {
  return Rewriter(spirv).Run();
}

}  // namespace tandem::kernels
