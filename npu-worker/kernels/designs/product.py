"""The matrix product's design for the array, in IRON (mlir-aie): cores, streams and buffers. Prints MLIR.

    python3 product.py --generation aie2|aie2p --weights int8|int4 > product.mlir

tools/tandem_npu_kernels.py calls it, with the numbers of tile_shape.h. What each core computes stands in aie/product_kernel.h; what flows through
the streams, and in which order, in npu-worker/product (product_layout.h, product_sequence.h): the instructions of a shape are written there, not here.

    column i < 4:  shim MM2S 0 -> memory tile i -> core row i, all columns     weights, a chunk at a time
    column j:      shim MM2S 1 -> memory tile j -> all cores of column j       activations
    column j:      cores of column j -> memory tile j (joined) -> shim S2MM 0  sums

A core keeps its 64 x 64 sums while `chunks` (a run-time parameter) pairs of chunks go by, and lets them leave after the last.
"""
import argparse
import dataclasses

import placement
from placement import COLUMNS, CORE_ROWS, DEPTH, buffer_type

PARAMETER_BYTES = 64


@dataclasses.dataclass
class Tile:
    """A core's buffers, in bytes, as tile_shape.h computes them."""
    weights: int
    activations: int
    sums: int

    @staticmethod
    def of(weights: str) -> "Tile":
        rows, tokens, columns, group = 64, 64, 128, 32
        groups = columns // group
        quants = rows * columns // (2 if weights == "int4" else 1)
        return Tile(quants + groups * rows * 4, tokens * columns + groups * tokens * 4, rows * tokens * 4)


def core(weights_in, activations_in, sums_out, chunks, zero, product):
    """What a core does, for ever: one tile of sums."""
    from aie.iron.controlflow import range_
    sums = sums_out.acquire(1)
    zero(sums)
    weights = weights_in.acquire(1)
    activations = activations_in.acquire(1)
    # Read once the first inputs are there: the instructions write it before they start any stream.
    rest = chunks[0] - 1
    product(weights, activations, sums)
    weights_in.release(1)
    activations_in.release(1)
    for _ in range_(rest):
        weights = weights_in.acquire(1)
        activations = activations_in.acquire(1)
        product(weights, activations, sums)
        weights_in.release(1)
        activations_in.release(1)
    sums_out.release(1)


def streams(columns: int, types: dict):
    """The object FIFOs: weights by core row, activations by column, sums by column and row. Each passes its column's memory tile."""
    from aie.iron import ObjectFifo
    weights, activations, sums, joined = [], [], [], []
    for i in range(CORE_ROWS):
        fifo = ObjectFifo(types["weights"], name=f"weights_in_{i}", depth=DEPTH)
        weights.append((fifo, fifo.cons().forward(tile=placement.memory(i), obj_type=types["weights"], name=f"weights_{i}")))
    for j in range(columns):
        fifo = ObjectFifo(types["activations"], name=f"activations_in_{j}", depth=DEPTH)
        activations.append((fifo, fifo.cons().forward(tile=placement.memory(j), obj_type=types["activations"], name=f"activations_{j}")))
        out = ObjectFifo(types["joined"], name=f"sums_out_{j}", depth=DEPTH)
        parts = out.prod().join([i * types["sums_floats"] for i in range(CORE_ROWS)], tile=placement.memory(j), depths=[1] * CORE_ROWS,
                                obj_types=[types["sums"]] * CORE_ROWS, names=[f"sums_{j}_{i}" for i in range(CORE_ROWS)])
        joined.append(out)
        sums.append(parts)
    return weights, activations, sums, joined


def design(generation: str, weights: str):
    """The MLIR module, in the API of mlir_aie 1.4."""
    import numpy as np
    from aie.iron import Buffer, Kernel

    columns, tile = COLUMNS[generation], Tile.of(weights)
    types = {"weights": buffer_type(tile.weights, np.int8), "activations": buffer_type(tile.activations, np.int8),
             "sums": buffer_type(tile.sums // 4, np.float32), "joined": buffer_type(CORE_ROWS * tile.sums // 4, np.float32), "sums_floats": tile.sums // 4}
    zero = Kernel("tandem_product_zero", "product.o", [types["sums"]])
    product = Kernel(f"tandem_product_{weights}", "product.o", [types["weights"], types["activations"], types["sums"]])
    weight_fifos, activation_fifos, sum_fifos, joined = streams(columns, types)

    workers = []
    for j in range(columns):
        for i in range(CORE_ROWS):
            # tools/tandem_npu_kernels.py finds these by name and refuses a build in which they do not lie at one address in all cores.
            chunks = Buffer(buffer_type(PARAMETER_BYTES // 4, np.int32), name=f"chunks_{j}_{i}", use_write_rtp=True)
            arguments = [weight_fifos[i][1].cons(), activation_fifos[j][1].cons(), sum_fifos[j][i].prod(), chunks, zero, product]
            workers.append(placement.worker(core, arguments, j, i))

    buffers = [buffer_type(CORE_ROWS * tile.weights, np.int8), buffer_type(columns * tile.activations, np.int8),
               buffer_type(columns * CORE_ROWS * tile.sums // 4, np.float32)]
    inputs = [(fifo.prod(channel=0, tile=placement.shim(i)), 0) for i, (fifo, _) in enumerate(weight_fifos)]
    inputs += [(fifo.prod(channel=1, tile=placement.shim(j)), 1) for j, (fifo, _) in enumerate(activation_fifos)]
    outputs = [(fifo.cons(channel=0, tile=placement.shim(j)), 2) for j, fifo in enumerate(joined)]
    return placement.program(generation, buffers, inputs, outputs, workers)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints the MLIR of the matrix product's design.")
    parser.add_argument("--generation", choices=sorted(COLUMNS), required=True)
    parser.add_argument("--weights", choices=["int8", "int4"], required=True)
    options = parser.parse_args()
    print(design(options.generation, options.weights))


if __name__ == "__main__":
    main()
