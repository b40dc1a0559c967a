#!/usr/bin/env python3
"""Compiles the NPU's kernels against AMD's public aie_api headers, as far as a compiler for the host goes.

    tools/check_aie_api.py FOLDER [--kernels npu-worker/kernels/aie]

FOLDER is a checkout of https://github.com/Xilinx/aie_api. Its headers need types and functions that only the cores' compiler has built in: the vectors'
storage, the instructions. Clang is asked again and again which names it misses, and those that are of this kind are declared: a type without contents, a
function that takes and gives anything. What it then says of the headers' insides counts for nothing; what it says of the kernels' own lines does: a name,
a template's arguments, a call or a vector's width that aie_api has not. Printed for both generations of the array; the exit status is 0 where no line of
ours is wrong. Not checked so: that instructions exist for what the headers choose, registers, program memory.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
GENERATIONS = {"aie2": 20, "aie2p": 21}
# Of the compiler; headers of a later one ask for more of what is declared here.
MODEL_VERSION = 99999
CLANGS = ("clang++-14", "clang++")
ROUNDS = 8

SCALARS = {"int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short", "int32": "int", "uint32": "unsigned",
           "int64": "long", "uint64": "unsigned long", "addr_t": "unsigned"}
TAGS = [f"{c}acc{bits}" for c in ("", "c") for bits in (16, 24, 32, 40, 48, 56, 64)] + ["accfloat", "caccfloat", "cbfloat16", "cint16", "cint32", "cfloat"]
BUILT_IN = """
#include <type_traits>
struct int4_t { int4_t() = default; constexpr int4_t(int) {} constexpr operator int() const { return 0; } };
struct uint4_t { uint4_t() = default; constexpr uint4_t(int) {} constexpr operator int() const { return 0; } };
using int4 = int4_t; using uint4 = uint4_t;
struct bfloat16 { unsigned short v; bfloat16() = default; constexpr bfloat16(float) : v(0) {} constexpr operator float() const { return 0; } };
enum class aie_dm_resource { none, a, b, c, d, stack };
enum class aie_stream_resource_in { a, none };
enum class aie_stream_resource_out { a, none };
template <class T> using aie_dm_resource_remove_t = T;
template <class T, aie_dm_resource> using aie_dm_resource_set_t = T;
template <class T> inline constexpr aie_dm_resource aie_dm_resource_get_v = aie_dm_resource::none;
struct tandem_anything { template <class T> operator T() const; };
#define __aie_register(...)
#define __aie_register_keep(...)
#define __aie_copy(x) x
"""


class Names:
    """What clang missed of the kind that the cores' compiler has built in."""

    def __init__(self):
        self.types, self.functions, self.values, self.macros = set(), set(), set(), set()

    def count(self) -> int:
        return len(self.types) + len(self.functions) + len(self.values) + len(self.macros)

    def learn(self, error: str) -> None:
        missing = re.search(r"unknown type name '(\w+)'|use of undeclared identifier '(\w+)'|no member named '(\w+)' in the global namespace", error)
        if missing is None:
            return
        name = missing[1] or missing[2] or missing[3]
        if re.fullmatch(r"v\d+[a-z]\w*", name):
            self.types.add(name)
        elif missing[3]:
            self.functions.add(name)
        elif missing[2] and name.startswith("chess_"):
            self.macros.add(name)
        elif missing[2] and re.match(r"(T\d+_|D?INTLV|rnd_|sat_)", name):
            self.values.add(name)

    def declared(self) -> str:
        lines = [f"using {name} = {kind};" for name, kind in SCALARS.items()] + [f"struct {name} {{}};" for name in TAGS] + [BUILT_IN]
        lines += [f"#define {name}{'' if name == 'chess_const' else '(...)'}" for name in sorted(self.macros)]
        lines += [f"struct {name} {{}};" for name in sorted(self.types)]
        lines += [f"inline constexpr int {name} = 0;" for name in sorted(self.values)]
        lines += [f"template <class... A> tandem_anything {name}(A&&...);" for name in sorted(self.functions)]
        return "\n".join(lines) + "\n"


def errors_of(clang: str, source: pathlib.Path, arch: int, include: pathlib.Path, names: Names, scratch: pathlib.Path) -> list[str]:
    prelude = scratch / "built_in.h"
    prelude.write_text(names.declared())
    result = subprocess.run([clang, "-fsyntax-only", "-ferror-limit=0", "-fno-spell-checking", "-fno-caret-diagnostics", "-w", "-std=c++20",
                             f"-D__AIE_ARCH__={arch}", f"-D__AIE_MODEL_VERSION__={MODEL_VERSION}", f"-I{include}", f"-I{ROOT}", "-include", str(prelude),
                             str(source)], capture_output=True, text=True)
    return [line for line in result.stderr.splitlines() if re.search(r" (fatal )?error: ", line)]


def check(clang: str, source: pathlib.Path, arch: int, include: pathlib.Path) -> tuple[list[str], int, int]:
    """Errors in the kernels' own lines, how many others there are, and how many names were declared."""
    names = Names()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            before = names.count()
            errors = errors_of(clang, source, arch, include, names, pathlib.Path(folder))
            for error in errors:
                names.learn(error)
            if names.count() == before:
                break
    own = [e for e in errors if pathlib.Path(e.split(":")[0]).resolve().is_relative_to(source.parent)]
    # Without the headers there is nothing to compare with.
    fatal = [e for e in errors if " fatal error: " in e and e not in own]
    return own + fatal, len(errors) - len(own), names.count()


def find_clang() -> str:
    for name in CLANGS:
        try:
            subprocess.run([name, "--version"], capture_output=True, check=True)
            return name
        except (OSError, subprocess.CalledProcessError):
            pass
    sys.exit(f"check_aie_api: expected one of {', '.join(CLANGS)}, found none")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--kernels", type=pathlib.Path, default=ROOT / "npu-worker/kernels/aie")
    options = parser.parse_args(arguments)
    include = next((f for f in (options.folder / "include", options.folder) if (f / "aie_api/aie.hpp").is_file()), None)
    if include is None:
        sys.exit(f"check_aie_api: {options.folder}: expected a folder with include/aie_api/aie.hpp")
    clang, wrong = find_clang(), 0
    sources = sorted(options.kernels.resolve().glob("*.cc"))
    for generation, arch in GENERATIONS.items():
        for source in sources:
            own, others, declared = check(clang, source, arch, include)
            wrong += len(own)
            print(f"{generation:<6}{source.name:<13}{len(own)} errors in the kernels' lines; {others} within the headers, {declared} names declared for them")
            print("".join(f"  {error}\n" for error in own), end="")
    if not sources:
        sys.exit(f"check_aie_api: {options.kernels}: expected kernels, found none")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
