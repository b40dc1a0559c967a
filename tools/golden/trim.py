#!/usr/bin/env python3
"""Makes the committed golden sets from full ones: the checkpoint as it is, the reference cut to the ten best of every position.

    python3 tools/golden/trim.py OUT SET_FOLDER ...        (needs numpy and safetensors)

tests/golden/README.md describes the files.
"""
import json
import pathlib
import shutil
import sys

import numpy
from safetensors.numpy import load_file, save_file

BEST = 10
# `tiny` as GGUF would be another function (GGUF carries no query_pre_attn_scalar), so it is left out.
GGUF_SETS = {"small1b", "like1b"}


def log_softmax(logits: numpy.ndarray) -> numpy.ndarray:
    logits = logits.astype(numpy.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(-1, keepdims=True))


def trim_reference(full: pathlib.Path, out: pathlib.Path) -> None:
    tensors = {}
    for name, logits in load_file(full).items():
        case = name.removeprefix("logits_")
        logprobs = log_softmax(logits)
        best = numpy.argsort(-logprobs, -1, kind="stable")[:, :BEST]
        tensors[f"top_ids_{case}"] = best.astype(numpy.int32)
        tensors[f"top_logprobs_{case}"] = numpy.take_along_axis(logprobs, best, -1).astype(numpy.float32)
    save_file(tensors, out)


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for folder in map(pathlib.Path, sys.argv[2:]):
        out = pathlib.Path(sys.argv[1]) / folder.name
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.iterdir()):
            if file.name == "reference.safetensors":
                trim_reference(file, out / file.name)
            elif file.suffix != ".gguf" or folder.name in GGUF_SETS:
                shutil.copyfile(file, out / file.name)
        cases = json.loads((out / "cases.json").read_text())["cases"]
        print(folder.name, len(cases), "prompts,", sum(f.stat().st_size for f in out.iterdir()), "bytes")


if __name__ == "__main__":
    main()
