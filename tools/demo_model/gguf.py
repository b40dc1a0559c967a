"""A small GGUF version 3 writer and reader (numpy only): what the demo model needs, F32 and Q8_0 tensors.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
_SCALAR = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    U32: "<I",
    I32: "<i",
    F32: "<f",
    BOOL: "<?",
    U64: "<Q",
    11: "<q",
    12: "<d",
}
TENSOR_F32, TENSOR_Q8_0 = 0, 8
GROUP = 32  # values of a Q8_0 block: a float16 scale, then 32 int8
ALIGNMENT = 32


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    return _string(value) if kind == STRING else struct.pack(_SCALAR[kind], value)


def entry(key, kind, value):
    """One metadata entry; a list becomes an array of `kind`."""
    if isinstance(value, list):
        return (
            _string(key)
            + struct.pack("<IIQ", ARRAY, kind, len(value))
            + b"".join(_value(kind, v) for v in value)
        )
    return _string(key) + struct.pack("<I", kind) + _value(kind, value)


def q8_0(values, scales):
    """Bytes of Q8_0 blocks; values int8 [rows, groups, 32], scales float16 [rows, groups, 1]."""
    blocks = np.empty(values.shape[:-1] + (2 + GROUP,), np.uint8)
    blocks[..., :2] = np.ascontiguousarray(scales.astype("<f2")).view(np.uint8)
    blocks[..., 2:] = values.astype(np.int8).view(np.uint8)
    return blocks.tobytes()


def write(path, metadata, tensors):
    """metadata: entries; tensors: [(name, shape outermost first, tensor type, bytes)]."""
    info, offset = [], 0
    for name, shape, kind, data in tensors:
        dims = list(reversed(shape))
        info.append(
            _string(name)
            + struct.pack("<I", len(dims))
            + struct.pack(f"<{len(dims)}Q", *dims)
            + struct.pack("<IQ", kind, offset)
        )
        offset += len(data) + -len(data) % ALIGNMENT
    head = (
        b"GGUF"
        + struct.pack("<IQQ", 3, len(tensors), len(metadata))
        + b"".join(metadata)
        + b"".join(info)
    )
    with open(path, "wb") as out:
        out.write(head + b"\0" * (-len(head) % ALIGNMENT))
        for _, _, _, data in tensors:
            out.write(data + b"\0" * (-len(data) % ALIGNMENT))


class _Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value[0] if len(value) == 1 else value

    def string(self):
        n = self.take("<Q")
        text = self.data[self.at : self.at + n].decode("utf-8")
        self.at += n
        return text

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.take("<I"), self.take("<Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(_SCALAR[kind])


def read(path):
    """(metadata as a dictionary, {name: float32 array}); Q8_0 is given back as its values times its scales."""
    data = path.read_bytes()
    cursor = _Cursor(data)
    if data[:4] != b"GGUF":
        raise ValueError(f"{path}: no GGUF file")
    cursor.at = 4
    version, tensors, entries = cursor.take("<I"), cursor.take("<Q"), cursor.take("<Q")
    if version != 3:
        raise ValueError(f"{path}: GGUF version {version}, expected 3")
    metadata = {}
    for _ in range(entries):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.take("<I"))
    info = []
    for _ in range(tensors):
        name = cursor.string()
        dims = [cursor.take("<Q") for _ in range(cursor.take("<I"))]
        info.append((name, list(reversed(dims)), cursor.take("<I"), cursor.take("<Q")))
    base = cursor.at + -cursor.at % ALIGNMENT
    out = {}
    for name, shape, kind, offset in info:
        count = int(np.prod(shape))
        if kind == TENSOR_F32:
            out[name] = np.frombuffer(data, "<f4", count, base + offset).reshape(shape).copy()
        elif kind == TENSOR_Q8_0:
            blocks = np.frombuffer(
                data, np.uint8, count // GROUP * (2 + GROUP), base + offset
            ).reshape(-1, 2 + GROUP)
            scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
            values = np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)
            out[name] = (values * scales).reshape(shape)
        else:
            raise ValueError(f"{path}: {name}: tensor type {kind}, expected F32 or Q8_0")
    return metadata, out
