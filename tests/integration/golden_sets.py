"""Reads the committed golden sets (tests/golden/README.md) with the standard library only."""
from __future__ import annotations

import array
import json
import pathlib
import struct


def read_safetensors(path: pathlib.Path) -> dict[str, tuple[list[int], array.array]]:
    """float32 and int32 tensors by name: (shape, values)."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in info["data_offsets"])
        values = array.array({"F32": "f", "I32": "i"}[info["dtype"]])
        values.frombytes(data[begin:end])
        tensors[name] = (info["shape"], values)
    return tensors
