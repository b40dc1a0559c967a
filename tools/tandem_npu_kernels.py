#!/usr/bin/env python3
"""Builds the NPU's kernels into the packages that npu-worker loads. Needs AMD's open toolchain, which no Linux distribution has.

    tools/tandem_npu_kernels.py build [--out FOLDER] [--generation aie2|aie2p] [--package int8|int4|attention|rows]
    tools/tandem_npu_kernels.py check

`check` says whether the toolchain is there in the pinned versions. `build` makes FOLDER/GENERATION_PACKAGE/{package.json,KIND.xclbin} for each
generation of the array: the matrix product for int8 and for int4 weights (the kind `product`), `attention`, and `rows` (RMSNorm, RoPE, GeGLU). The
packages' format: npu-worker/package/kernel_package.h.
"""
import argparse
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The design is written to this API; mlir_aie 1.4.2 names this build of Peano. Wheels of the toolchain's project, not on PyPI.
PINNED = {"mlir_aie": "1.4.2", "llvm-aie": "21.0.0.2026080301+c9c5ecb7"}
WHEELS = ["https://github.com/Xilinx/mlir-aie/releases/expanded_assets/v1.4.2", "https://github.com/Xilinx/llvm-aie/releases/expanded_assets/nightly"]
ARCH = {"aie2": 20, "aie2p": 21}
TARGET = {"aie2": "aie2-none-unknown-elf", "aie2p": "aie2p-none-unknown-elf"}
COLUMNS = {"aie2": 4, "aie2p": 8}
CORE_ROWS = 4
TILES = {"product": {"rows": 64, "tokens": 64, "columns": 128}, "attention": {"values": 4096}, "rows": {"chunk": 1024, "chunks": 6}}
PACKAGES = ("int8", "int4", "attention", "rows")
# What a core of AIE2P loads at once; the compiler aligns buffers to 32 bytes for both generations.
ALIGNMENT = 64


class BuildError(Exception):
    """What is wrong, for the person who builds."""


def installed() -> dict[str, str]:
    """Versions of the toolchain's wheels; what is missing is not in it."""
    found = {}
    for name in PINNED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def check_toolchain(found: dict[str, str]) -> None:
    """Raises when a wheel is missing or of another version than the pinned one."""
    wrong = [f"{name} {version} (found {found.get(name, 'none')})" for name, version in PINNED.items() if found.get(name) != version]
    if not wrong:
        return
    pip = "pip install " + " ".join(f"'{n}=={v}'" for n, v in PINNED.items()) + "".join(f" -f {url}" for url in WHEELS)
    raise BuildError(f"the toolchain for the NPU's cores is not here: expected {', '.join(wrong)}.\n"
                     f"In a virtual environment of Python 3.11 or newer:\n  {pip}")


def run(command: list[str], folder: pathlib.Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode != 0:
        raise BuildError(f"{command[0]} failed with {result.returncode}:\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return result.stdout


def parameter_address(mlir: str, columns: int) -> int:
    """Where the run-time parameter lies in a core's memory. It must be one address in all cores: the worker writes one."""
    addresses = {}
    for line in mlir.splitlines():
        name = re.search(r'sym_name = "chunks_(\d+)_(\d+)"', line)
        address = re.search(r"address = (\d+)", line)
        if "aie.buffer" in line and name and address:
            addresses[(int(name[1]), int(name[2]))] = int(address[1])
    wanted = {(c, r) for c in range(columns) for r in range(CORE_ROWS)}
    if set(addresses) != wanted:
        raise BuildError(f"lowered design: expected the parameter of {len(wanted)} cores, found {len(addresses)}")
    if len(set(addresses.values())) != 1:
        raise BuildError(f"lowered design: expected one address for the parameter, found {sorted(set(addresses.values()))}")
    return addresses[(0, 0)]


def kind_of(package: str) -> str:
    return "product" if package in ("int8", "int4") else package


def streams_of(kind: str, columns: int) -> dict[str, tuple[int, str, int]]:
    """Column, direction and channel of each stream, as the instructions of the kind name them: product_sequence.h, attention_sequence.h, rows_sequence.h."""
    by_row, by_column, out = {"product": ("weights_in", "activations_in", "sums_out"), "attention": ("chunks_in", "queries_in", "attended_out"),
                              "rows": (None, "pairs_in", "chunks_out")}[kind]
    streams = {f"{by_row}_{i}": (i, "MM2S", 0) for i in range(CORE_ROWS)} if by_row else {}
    for j in range(columns):
        streams[f"{by_column}_{j}"] = (j, "MM2S", 1 if by_row else 0)
        streams[f"{out}_{j}"] = (j, "S2MM", 0)
    return streams


def check_alignment(mlir: str) -> None:
    """Raises where a buffer of a core lies at an address that the core cannot load whole vectors from."""
    wrong, found = [], 0
    for line in mlir.splitlines():
        tile, address, name = (re.search(pattern, line) for pattern in (r"aie\.buffer\(%(\w+)\)", r"address = (\d+)", r'sym_name = "(\w+)"'))
        if tile is None or "mem_tile" in tile[1]:
            continue
        found += 1
        if address is None or int(address[1]) % ALIGNMENT != 0:
            wrong.append(f"{name[1] if name else tile[1]} at {address[1] if address else 'no address'}")
    if wrong or not found:
        raise BuildError(f"lowered design: expected buffers of cores at multiples of {ALIGNMENT}, found {', '.join(wrong[:8]) or 'no buffers'}")


def check_shims(mlir: str, wanted: dict[str, tuple[int, str, int]]) -> None:
    """The instructions that the worker writes name shim channels. Raises where the compiler chose others."""
    pattern = re.compile(r"aie\.shim_dma_allocation @(\w+)\s*\(%?\w*?_?(\d+)(?:_0)?\s*,\s*(MM2S|S2MM)\s*,\s*(\d+)\)")
    found = {m[1]: (int(m[2]), m[3], int(m[4])) for m in pattern.finditer(mlir)}
    wrong = [f"{name}: expected {place}, found {found.get(name)}" for name, place in wanted.items() if found.get(name) != place]
    if wrong:
        raise BuildError("lowered design: streams on other shim channels than the instructions name:\n  " + "\n  ".join(wrong))


def description(generation: str, package: str, address: int | None, xclbin: bytes, versions: dict[str, str]) -> dict:
    kind = kind_of(package)
    product = {"weights": package, "parameter_address": address} if kind == "product" else {}
    return {"format": 1, "kind": kind, "generation": generation, "kernel": "MLIR_AIE", "array": {"rows": CORE_ROWS, "columns": COLUMNS[generation]},
            "tile": TILES[kind], **product, "xclbin": {"file": f"{kind}.xclbin", "bytes": len(xclbin), "crc32": zlib.crc32(xclbin)},
            "toolchain": {"mlir_aie": versions["mlir_aie"], "peano": versions["llvm-aie"]}}


def build_one(generation: str, package: str, out: pathlib.Path, versions: dict[str, str]) -> None:
    peano = pathlib.Path(importlib.metadata.distribution("llvm-aie").locate_file("llvm-aie"))
    headers = pathlib.Path(importlib.metadata.distribution("mlir_aie").locate_file("mlir_aie")) / "include"
    kind = kind_of(package)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        run([str(peano / "bin" / "clang++"), "-O2", "-std=c++20", f"--target={TARGET[generation]}", f"-D__AIE_ARCH__={ARCH[generation]}", "-DNDEBUG",
             f"-I{headers}", f"-I{ROOT}", "-c", str(ROOT / f"npu-worker/kernels/aie/{kind}.cc"), "-o", f"{kind}.o"], folder)
        weights = ["--weights", package] if kind == "product" else []
        mlir = run([sys.executable, str(ROOT / f"npu-worker/kernels/designs/{kind}.py"), "--generation", generation, *weights], folder)
        (folder / f"{kind}.mlir").write_text(mlir)
        run(["aiecc", "--get-xclbin", f"--xclbin-name={kind}.xclbin", "--get-input-with-addresses", f"--peano={peano}", "--tmpdir=work", f"{kind}.mlir"], folder)
        lowered = "".join(p.read_text() for p in sorted(folder.rglob("*with_addresses*.mlir")))
        check_shims(lowered, streams_of(kind, COLUMNS[generation]))
        check_alignment(lowered)
        address = parameter_address(lowered, COLUMNS[generation]) if kind == "product" else None
        xclbin = (folder / f"{kind}.xclbin").read_bytes()
        target = out / f"{generation}_{package}"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / f"{kind}.xclbin", target / f"{kind}.xclbin")
        # Last, and in one go: a package without it is none.
        partial = target / "package.json.partial"
        partial.write_text(json.dumps(description(generation, package, address, xclbin, versions), indent=1) + "\n")
        os.replace(partial, target / "package.json")
        print(f"{target}: {len(xclbin)} bytes" + (f", parameter at {address}" if address is not None else ""))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="says whether the toolchain is there")
    build = commands.add_parser("build", help="builds the packages")
    build.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "npu-kernels")
    build.add_argument("--generation", choices=sorted(ARCH), action="append")
    build.add_argument("--package", choices=PACKAGES, action="append")
    options = parser.parse_args(arguments)
    try:
        versions = installed()
        check_toolchain(versions)
        if options.command == "check":
            print("toolchain: " + ", ".join(f"{n} {v}" for n, v in versions.items()))
            return 0
        for generation in options.generation or sorted(ARCH):
            for package in options.package or PACKAGES:
                build_one(generation, package, options.out, versions)
    except BuildError as error:
        print(f"tandem-npu-kernels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
