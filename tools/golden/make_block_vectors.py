#!/usr/bin/env python3
"""Random GGUF blocks and the values that the `gguf` Python package says they stand for.

    python3 tools/golden/make_block_vectors.py tests/unit/loader/data/block_vectors.safetensors

Needs numpy, gguf and safetensors. For each type: `<type>.blocks` (U8) and `<type>.values` (F32).
"""
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

BLOCKS = 6
HALVES = {"Q8_0": (0,), "Q5_0": (0,), "Q4_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # offsets of fp16 fields


def main():
    rng = np.random.default_rng(20)
    out = {}
    for name, halves in HALVES.items():
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
        for at in halves:
            scales = rng.normal(0, 0.01, BLOCKS).astype(np.float16)
            blocks[:, at:at + 2] = scales.view(np.uint8).reshape(BLOCKS, 2)
        out[name + ".blocks"] = blocks
        out[name + ".values"] = np.ascontiguousarray(gguf.quants.dequantize(blocks, kind), dtype=np.float32)
    save_file(out, sys.argv[1])


if __name__ == "__main__":
    main()
