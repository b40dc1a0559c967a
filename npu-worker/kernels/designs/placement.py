"""What the designs share: the array's shape, where things lie on it, how buffers are typed.

In IRON (mlir-aie). Shim and memory tiles, and the shims' DMA channels, are named instead of left to the compiler: the instructions that the worker writes
start transfers on these. Cores lay their buffers one behind the other, each a multiple of ALIGNMENT long.
"""
import argparse
import typing

CORE_ROWS = 4
COLUMNS = {"aie2": 4, "aie2p": 8}
DEPTH = 2  # double buffers
STACK_BYTES = 2048
# What a core of AIE2P loads at once; the compiler aligns buffers to 32 bytes for both generations.
ALIGNMENT = 64


def shim(column: int):
    from aie.iron.device import Tile
    return Tile(column, 0)


def memory(column: int):
    from aie.iron.device import Tile
    return Tile(column, 1)


def buffer_type(n: int, kind: type):
    """Of `n` numbers."""
    import numpy as np
    return np.ndarray[(n,), np.dtype[kind]]


def worker(function: typing.Callable, arguments: list, column: int, row: int):
    """A core, which repeats `function` for ever. Its loops have bounds that only the running core knows, so its buffers take turns at run time."""
    from aie.iron import Worker
    from aie.iron.device import Tile
    return Worker(function, arguments, tile=Tile(column, 2 + row), stack_size=STACK_BYTES, allocation_scheme="basic-sequential",
                  dynamic_objfifo_lowering=True)


def program(generation: str, buffers: list, inputs: list, outputs: list, workers: list):
    """The MLIR module. `inputs`: a stream's handle with the number of the buffer that fills it; `outputs` the same. The sequence only ties the streams to
    shim channels and to the call's buffers, an object each: the worker writes its own instructions."""
    from aie.iron import Program, Runtime
    from aie.iron.device import NPU1, NPU2

    def sequence(*arguments):
        sizes, handles = arguments[:len(buffers)], arguments[len(buffers):]
        for (_, number), handle in zip(inputs, handles):
            handle.fill(sizes[number])
        for (_, number), handle in zip(outputs, handles[len(inputs):]):
            handle.drain(sizes[number], wait=True)
    runtime = Runtime(sequence, buffers + [handle for handle, _ in inputs + outputs])
    return Program(NPU1() if generation == "aie2" else NPU2(), runtime, workers=workers).resolve_program()


def parse_generation(description: str, arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--generation", choices=sorted(COLUMNS), required=True)
    return parser.parse_args(arguments).generation
