#!/usr/bin/env python3
"""Runs the NPU's designs through IRON's own Python without its compiler. tools/check_iron_api.py calls it and says what that shows.

    tools/run_iron_designs.py CHECKOUT DESIGNS
"""
import collections
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import pathlib
import sys
import traceback
import types

# What comes from the compiler, or needs it.
STUBBED = ("aie.ir", "aie.dialects", "aie.extras", "aie.utils", "aie._mlir_libs", "aie.iron.algorithms", "aie.iron.kernels", "aie.helpers.dialects.func")
# Of a tile, in bytes and DMA channels each way, by its row: shim, memory tile, core.
MEMORY = {0: 0, 1: 512 * 1024, 2: 64 * 1024}
CHANNELS = {0: 2, 1: 6, 2: 2}


class AnyClass(type):
    """A class that has whatever is asked of it, and that everything stubbed is an instance of."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Anything()
        setattr(cls, name, made)
        return made

    def __instancecheck__(cls, instance):
        return issubclass(type(instance), Anything)


class Anything(metaclass=AnyClass):
    """Takes every call, index and attribute. As a decorator it runs the function at once, as the dialects' @device and @core do."""

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        # Of a block: as many as are asked for.
        return itertools.repeat(Anything()) if name == "arguments" else Anything()

    def __call__(self, *arguments, **_):
        if len(arguments) == 1 and isinstance(arguments[0], types.FunctionType):
            arguments[0]()
        return Anything()

    def __getitem__(self, _):
        return Anything()

    def __iter__(self):
        return iter(())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def __sub__(self, _):
        return Anything()


class Stub(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "AIEDevice":
            made = [types.SimpleNamespace(name="npu1"), types.SimpleNamespace(name="npu2")]
        elif name == "ceildiv":
            def made(n, by):
                return -(-n // by)
        else:
            made = AnyClass(name, (Anything,), {}) if name[0].isupper() else Anything()
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if any(name == stub or name.startswith(stub + ".") for stub in STUBBED):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


def size_of(kind) -> int:
    import numpy as np
    from aie.helpers.util import np_ndarray_type_get_dtype, np_ndarray_type_get_shape
    return int(np.prod(np_ndarray_type_get_shape(kind))) * np.dtype(np_ndarray_type_get_dtype(kind)).itemsize


class Array:
    """What the objects of one program take of each tile."""

    def __init__(self):
        self.bytes = collections.Counter()
        self.channels = collections.Counter()
        self.fifos, self.workers = [], []

    def add_worker(self, worker) -> None:
        place = (worker.tile.col, worker.tile.row)
        self.bytes[place] += worker.stack_size + sum(size_of(buffer._arr_type) for buffer in worker.buffers)

    def add_fifo(self, fifo) -> None:
        from aie.iron.dataflow.objectfifo import ObjectFifoLink
        producer, size = fifo._prod, size_of(fifo.obj_type)
        for handle, way in [(producer, "out"), *((consumer, "in") for consumer in fifo._cons)]:
            tile = handle.endpoint.tile
            if tile.col is None or tile.row is None:
                raise ValueError(f"{fifo.name}: a tile that is left to the compiler")
            self.channels[(tile.col, tile.row, way)] += 1
            # Where streams are linked, the buffers are those of the end that all share.
            links = handle.endpoint if isinstance(handle.endpoint, ObjectFifoLink) else None
            shared = links is None or (links._srcs == [handle] if way == "in" else links._dsts == [handle] and len(links._srcs) > 1)
            if tile.row > 0 and shared:
                self.bytes[(tile.col, tile.row)] += handle.depth * size

    def errors(self, columns: int) -> list[str]:
        wrong = [f"tile {c},{r}: {n} bytes, of {MEMORY[min(r, 2)]}" for (c, r), n in self.bytes.items() if n > MEMORY[min(r, 2)]]
        wrong += [f"tile {c},{r}: {n} DMA channels {way}, of {CHANNELS[min(r, 2)]}" for (c, r, way), n in self.channels.items() if n > CHANNELS[min(r, 2)]]
        cores = {(c, r) for c, r in self.bytes if r >= 2}
        expected = {(c, r) for c in range(columns) for r in range(2, 6)}
        return sorted(wrong) + [f"cores: expected {len(expected)}, found {sorted(cores ^ expected)} too many or too few"] * (cores != expected)

    def summary(self) -> str:
        most = [max((n for (_, r), n in self.bytes.items() if min(r, 2) == row), default=0) for row in (1, 2)]
        return f"{len(self.workers)} cores of {most[1]} bytes, memory tiles of {most[0]} bytes, {len(self.fifos)} streams"


def watch(array: Array) -> None:
    """Has IRON's classes tell what a program is made of."""
    from aie.iron import ObjectFifo, Worker
    for kind, made in ((ObjectFifo, array.fifos), (Worker, array.workers)):
        original = kind.__init__ if not hasattr(kind, "tandem_original") else kind.tandem_original
        kind.tandem_original = original

        def construct(self, *arguments, original=original, made=made, **keywords):
            original(self, *arguments, **keywords)
            made.append(self)
        kind.__init__ = construct


def programs(designs: pathlib.Path):
    """Name, number of columns and what makes it, of each program that the tool builds."""
    sys.path.insert(0, str(designs))
    for path in sorted(designs.glob("*.py")):
        module = __import__(path.stem)
        if not hasattr(module, "design"):
            continue
        for generation, columns in (("aie2", 4), ("aie2p", 8)):
            for weights in ("int8", "int4") if path.stem == "product" else (None,):
                arguments = [generation] + ([weights] if weights else [])
                yield " ".join([path.stem, *arguments]), columns, module.design, arguments


def main(checkout: pathlib.Path, designs: pathlib.Path) -> int:
    missing = [name for name in ("numpy", "ml_dtypes") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"designs not run: expected {' and '.join(missing)} for this Python: pip install {' '.join(missing)}")
        return 1
    package = types.ModuleType("aie")
    package.__path__ = [str(checkout / "python")]
    sys.modules["aie"] = package
    sys.meta_path.insert(0, Finder())
    wrong = 0
    for name, columns, design, arguments in programs(designs.resolve()):
        array = Array()
        try:
            watch(array)
            design(*arguments)
            for worker in array.workers:
                array.add_worker(worker)
            for fifo in array.fifos:
                array.add_fifo(fifo)
            errors = array.errors(columns)
        except Exception as error:  # whatever IRON raises is a finding
            at = traceback.extract_tb(error.__traceback__)[-1]
            errors = [f"{type(error).__name__}: {error} ({pathlib.Path(at.filename).name}:{at.lineno})"]
        wrong += len(errors)
        print(f"{name:<19}{'; '.join(errors) if errors else 'runs through IRON: ' + array.summary()}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])))
