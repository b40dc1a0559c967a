#ifndef TANDEM_KERNELS_CANDIDATES_CANDIDATES_PARAMS_H_
#define TANDEM_KERNELS_CANDIDATES_CANDIDATES_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

// The best logits of every row and sums over all of it, in two kernels: logit_blocks sums up blocks
// of a row, candidates chooses by what it left.
struct CandidatesParams {
  uint vocab;
  uint block;   // logits of a block
  uint blocks;  // of a row, at most kMaxLogitBlocks
};

TANDEM_SHARED_CONST(kMaxLogitBlocks, 512)
TANDEM_SHARED_CONST(kMaxCandidates, 64)

// What a block leaves, floats: its largest logit, the sums, an unused one, and the largest logit of
// each of its parts. Part p are the logits p, p + kLogitParts, p + 2 * kLogitParts, ... of the
// block.
TANDEM_SHARED_CONST(kLogitParts, 32)
TANDEM_SHARED_CONST(kLogitBlockFloats, 4 + kLogitParts)

// What a row leaves for the host: this, then kMaxCandidates pairs (logit, token), best first, the
// lower token first among equals.
struct CandidatesHeader {
  float sum;         // of exp(logit - the best one)
  float scaled_sum;  // of exp((logit - the best one) / temperature)
  uint count;        // of pairs; 0: the row must be looked at whole
  uint reserved;
};

TANDEM_SHARED_END

#endif
