// The small buffer that the host writes for every step, binding 0 of the kernels that need it: this
// header, then words at the offsets it names (in words from the end of the header).
#ifndef TANDEM_KERNELS_COMMON_STEP_PARAMS_H_
#define TANDEM_KERNELS_COMMON_STEP_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct StepHeader {
  uint tokens;         // tokens of the step; what stands behind them in a bucket is masked
  uint logit_rows;     // rows of the head
  uint input_base;     // first float of the input residual's slot
  uint output_base;    // first float of the output residual's slot
  uint token_ids_at;   // max_tokens words
  uint positions_at;   // max_tokens words
  uint sequences_at;   // max_tokens words: which of the step's sequences a token belongs to
  uint logit_rows_at;  // max_logit_rows words: token indices
  uint inverse_temperatures_at;  // max_logit_rows words: floats
  uint global_blocks_at;         // max_sequences block tables
  uint window_blocks_at;         // max_sequences block tables
  uint blocks_per_table;         // words from one sequence's table to the next
  uint tiles;                    // of tokens that attention takes together
  // Two words for each tile: its first token and how many there are, up to kTileTokens, neighbours
  // of one sequence.
  uint tiles_at;
  uint tiled_at;           // max_tokens words: 1 where the token is one of a tile's
  uint last_positions_at;  // max_sequences words: of the step's tokens of a sequence
};

// Tokens of a sequence come in tiles where a step has at least kMinTiledTokens of them.
TANDEM_SHARED_CONST(kTileTokens, 32)
TANDEM_SHARED_CONST(kMinTiledTokens, 16)

// Which of the counts above bounds a kernel's rows.
TANDEM_SHARED_CONST(kRowsAreTokens, 0)
TANDEM_SHARED_CONST(kRowsAreLogits, 1)

// Where a residual row lies: a buffer of the stage's own, or a slot of an edge's ring.
TANDEM_SHARED_CONST(kBaseZero, 0)
TANDEM_SHARED_CONST(kBaseInput, 1)
TANDEM_SHARED_CONST(kBaseOutput, 2)

TANDEM_SHARED_CONST(kBlockTokens, 16)

TANDEM_SHARED_END

#endif
