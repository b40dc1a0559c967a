"""The design of what works row by row (RMSNorm, RoPE, GeGLU) for the array, in IRON (mlir-aie): cores, streams and buffers. Prints MLIR.

    python3 rows.py --generation aie2|aie2p > rows.mlir

tools/tandem_npu_kernels.py calls it. What each core computes stands in aie/rows.cc, the buffers in rows_shape.h, what flows through the streams, and in
which order, in npu-worker/rows.

    column j:  shim MM2S 0 -> memory tile j (split) -> cores of column j   pairs: a chunk of a row and one of what goes with it
    column j:  cores of column j -> memory tile j (joined) -> shim S2MM 0  chunks of what came of the rows

The first pair of a call is its header: the operation, how many rows each core gets, of how many chunks. It is the run-time parameter: the core copies it,
and no core reads it before it is there. A row is taken whole before its first chunk leaves, because RMSNorm scales by all of it.
"""
import placement
from placement import COLUMNS, CORE_ROWS, DEPTH, buffer_type

# As rows_shape.h computes them, in bytes.
CHUNK_BYTES = 1024 * 4
PAIR_BYTES = 2 * CHUNK_BYTES
ROW_BYTES = 6 * CHUNK_BYTES
PARAMETER_BYTES = 64


def core(pairs_in, chunks_out, row, parameters, begin, take, give):
    """What a core does, for ever: one call."""
    from aie.iron.controlflow import range_
    header = pairs_in.acquire(1)
    begin(header, parameters)
    pairs_in.release(1)
    for _ in range_(parameters[0]):
        for _ in range_(parameters[1]):
            pair = pairs_in.acquire(1)
            take(pair, row, parameters)
            pairs_in.release(1)
        for _ in range_(parameters[1]):
            chunk = chunks_out.acquire(1)
            give(row, parameters, chunk)
            chunks_out.release(1)


def streams(columns: int, types: dict):
    """The object FIFOs, by column and row. Each passes its column's memory tile."""
    from aie.iron import ObjectFifo
    pairs, chunks = [], []
    for j in range(columns):
        fifo = ObjectFifo(types["all_pairs"], name=f"pairs_in_{j}", depth=DEPTH)
        parts = fifo.cons().split([i * PAIR_BYTES // 4 for i in range(CORE_ROWS)], tile=placement.memory(j), depths=[DEPTH] * CORE_ROWS,
                                  obj_types=[types["pair"]] * CORE_ROWS, names=[f"pairs_{j}_{i}" for i in range(CORE_ROWS)])
        pairs.append((fifo, parts))
        out = ObjectFifo(types["all_chunks"], name=f"chunks_out_{j}", depth=DEPTH)
        joined = out.prod().join([i * CHUNK_BYTES // 4 for i in range(CORE_ROWS)], tile=placement.memory(j), depths=[DEPTH] * CORE_ROWS,
                                 obj_types=[types["chunk"]] * CORE_ROWS, names=[f"chunks_{j}_{i}" for i in range(CORE_ROWS)])
        chunks.append((out, joined))
    return pairs, chunks


def design(generation: str):
    """The MLIR module, in the API of mlir_aie 1.4."""
    import numpy as np
    from aie.iron import Buffer, Kernel

    columns = COLUMNS[generation]
    types = {"pair": buffer_type(PAIR_BYTES // 4, np.float32), "all_pairs": buffer_type(CORE_ROWS * PAIR_BYTES // 4, np.float32),
             "chunk": buffer_type(CHUNK_BYTES // 4, np.float32), "all_chunks": buffer_type(CORE_ROWS * CHUNK_BYTES // 4, np.float32),
             "row": buffer_type(ROW_BYTES // 4, np.float32), "parameters": buffer_type(PARAMETER_BYTES // 4, np.int32)}
    begin = Kernel("tandem_rows_begin", "rows.o", [types["pair"], types["parameters"]])
    take = Kernel("tandem_rows_take", "rows.o", [types["pair"], types["row"], types["parameters"]])
    give = Kernel("tandem_rows_give", "rows.o", [types["row"], types["parameters"], types["chunk"]])
    pair_fifos, chunk_fifos = streams(columns, types)

    workers = []
    for j in range(columns):
        for i in range(CORE_ROWS):
            row = Buffer(types["row"], name=f"row_{j}_{i}")
            parameters = Buffer(types["parameters"], name=f"parameters_{j}_{i}")
            arguments = [pair_fifos[j][1][i].cons(), chunk_fifos[j][1][i].prod(), row, parameters, begin, take, give]
            workers.append(placement.worker(core, arguments, j, i))

    buffers = [buffer_type(columns * CORE_ROWS * PAIR_BYTES // 4, np.float32), buffer_type(columns * CORE_ROWS * CHUNK_BYTES // 4, np.float32)]
    inputs = [(fifo.prod(channel=0, tile=placement.shim(j)), 0) for j, (fifo, _) in enumerate(pair_fifos)]
    outputs = [(fifo.cons(channel=0, tile=placement.shim(j)), 1) for j, (fifo, _) in enumerate(chunk_fifos)]
    return placement.program(generation, buffers, inputs, outputs, workers)


if __name__ == "__main__":
    print(design(placement.parse_generation("Prints the MLIR of the rows' design.")))
