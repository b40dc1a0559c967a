"""Reads the committed golden sets (tests/golden/README.md) with the standard library only."""
from __future__ import annotations

import array
import json
import pathlib
import struct


def read_safetensors(path: pathlib.Path, wanted: str = "") -> dict[str, tuple[list[int], array.array]]:
    """float32, int32 and bfloat16 tensors by name: (shape, values); bfloat16 as float32. Of those whose names end with `wanted`."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__" or not name.endswith(wanted):
            continue
        begin, end = (8 + size + offset for offset in info["data_offsets"])
        if info["dtype"] == "BF16":
            values = array.array("f", b"".join(b"\0\0" + data[at:at + 2] for at in range(begin, end, 2)))
            tensors[name] = (info["shape"], values)
            continue
        values = array.array({"F32": "f", "I32": "i"}[info["dtype"]])
        values.frombytes(data[begin:end])
        tensors[name] = (info["shape"], values)
    return tensors
