"""The design of attention for the array, in IRON (mlir-aie): cores, streams and buffers. Prints MLIR.

    python3 attention.py --generation aie2|aie2p > attention.mlir

tools/tandem_npu_kernels.py calls it. What each core computes stands in aie/attention.cc, the buffers in attention_shape.h, what flows through the
streams, and in which order, in npu-worker/attention.

    column i < 4:  shim MM2S 0 -> memory tile i -> core row i, all columns     chunks of keys and values of one kv head
    column j:      shim MM2S 1 -> memory tile j (split) -> cores of column j   a tile of queries each
    column j:      cores of column j -> memory tile j (joined) -> shim S2MM 0  what they attended to

A core holds its tile of queries, whose header says how many chunks follow, while these go by, and lets its sums leave behind the last. So the header is
the run-time parameter, and no core reads it before it is there.
"""
import placement
from placement import COLUMNS, CORE_ROWS, DEPTH, buffer_type

# As attention_shape.h computes them, in bytes.
QUERY_TILE_BYTES = (16 + 2 * 32) * 4 + 4096 * 2
CHUNK_BYTES = 2 * 4096 * 2
OUT_BYTES = 4096 * 4
PROGRESS_BYTES = 2 * 8 * 32 * 4 + 64


def core(queries_in, chunks_in, attended_out, progress, begin, chunk, end):
    """What a core does, for ever: one tile of queries."""
    from aie.iron.controlflow import range_
    queries = queries_in.acquire(1)
    attended = attended_out.acquire(1)
    begin(queries, progress, attended)
    for _ in range_(queries[0]):
        keys_values = chunks_in.acquire(1)
        chunk(queries, keys_values, progress, attended)
        chunks_in.release(1)
    end(queries, progress, attended)
    attended_out.release(1)
    queries_in.release(1)


def streams(columns: int, types: dict):
    """The object FIFOs: chunks by core row, queries and what comes out by column and row. Each passes its column's memory tile."""
    from aie.iron import ObjectFifo
    chunks, queries, attended = [], [], []
    for i in range(CORE_ROWS):
        fifo = ObjectFifo(types["chunk"], name=f"chunks_in_{i}", depth=DEPTH)
        chunks.append((fifo, fifo.cons().forward(tile=placement.memory(i), obj_type=types["chunk"], name=f"chunks_{i}")))
    for j in range(columns):
        fifo = ObjectFifo(types["all_queries"], name=f"queries_in_{j}", depth=DEPTH)
        parts = fifo.cons().split([i * QUERY_TILE_BYTES // 4 for i in range(CORE_ROWS)], tile=placement.memory(j), depths=[1] * CORE_ROWS,
                                  obj_types=[types["queries"]] * CORE_ROWS, names=[f"queries_{j}_{i}" for i in range(CORE_ROWS)])
        queries.append((fifo, parts))
        out = ObjectFifo(types["all_attended"], name=f"attended_out_{j}", depth=DEPTH)
        joined = out.prod().join([i * OUT_BYTES // 4 for i in range(CORE_ROWS)], tile=placement.memory(j), depths=[1] * CORE_ROWS,
                                 obj_types=[types["attended"]] * CORE_ROWS, names=[f"attended_{j}_{i}" for i in range(CORE_ROWS)])
        attended.append((out, joined))
    return chunks, queries, attended


def design(generation: str):
    """The MLIR module, in the API of mlir_aie 1.4."""
    import numpy as np
    from aie.iron import Buffer, Kernel

    columns = COLUMNS[generation]
    types = {"queries": buffer_type(QUERY_TILE_BYTES // 4, np.int32), "all_queries": buffer_type(CORE_ROWS * QUERY_TILE_BYTES // 4, np.int32),
             "chunk": buffer_type(CHUNK_BYTES, np.int8), "attended": buffer_type(OUT_BYTES // 4, np.float32),
             "all_attended": buffer_type(CORE_ROWS * OUT_BYTES // 4, np.float32), "progress": buffer_type(PROGRESS_BYTES, np.int8)}
    begin = Kernel("tandem_attention_begin", "attention.o", [types["queries"], types["progress"], types["attended"]])
    chunk = Kernel("tandem_attention_chunk", "attention.o", [types["queries"], types["chunk"], types["progress"], types["attended"]])
    end = Kernel("tandem_attention_end", "attention.o", [types["queries"], types["progress"], types["attended"]])
    chunk_fifos, query_fifos, attended_fifos = streams(columns, types)

    workers = []
    for j in range(columns):
        for i in range(CORE_ROWS):
            progress = Buffer(types["progress"], name=f"progress_{j}_{i}")
            arguments = [query_fifos[j][1][i].cons(), chunk_fifos[i][1].cons(), attended_fifos[j][1][i].prod(), progress, begin, chunk, end]
            workers.append(placement.worker(core, arguments, j, i))

    buffers = [buffer_type(CORE_ROWS * CHUNK_BYTES, np.int8), buffer_type(columns * CORE_ROWS * QUERY_TILE_BYTES // 4, np.int32),
               buffer_type(columns * CORE_ROWS * OUT_BYTES // 4, np.float32)]
    inputs = [(fifo.prod(channel=0, tile=placement.shim(i)), 0) for i, (fifo, _) in enumerate(chunk_fifos)]
    inputs += [(fifo.prod(channel=1, tile=placement.shim(j)), 1) for j, (fifo, _) in enumerate(query_fifos)]
    outputs = [(fifo.cons(channel=0, tile=placement.shim(j)), 2) for j, (fifo, _) in enumerate(attended_fifos)]
    return placement.program(generation, buffers, inputs, outputs, workers)


if __name__ == "__main__":
    print(design(placement.parse_generation("Prints the MLIR of attention's design.")))
