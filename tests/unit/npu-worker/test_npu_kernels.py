"""tools/tandem_npu_kernels.py up to the toolchain: what it says without one, and what it reads from a lowered design. The checks against AMD's sources."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
sys.path.insert(0, str(ROOT / "npu-worker" / "kernels" / "designs"))
import attention  # noqa: E402
import check_iron_api  # noqa: E402
import placement  # noqa: E402
import product  # noqa: E402
import rows  # noqa: E402
import tandem_npu_kernels as kernels  # noqa: E402


def lowered(columns: int, address=lambda c, r: 2048, channel=lambda name, n: n) -> str:
    lines = []
    for c in range(columns):
        for r in range(4):
            lines.append(f'%b = aie.buffer(%tile_{c}_{r + 2}) {{address = {address(c, r)} : i32, sym_name = "chunks_{c}_{r}"}} : memref<8xi32>')
        lines.append(f"aie.shim_dma_allocation @activations_in_{c}(%shim_noc_tile_{c}_0, MM2S, {channel('activations_in', 1)})")
        lines.append(f"aie.shim_dma_allocation @sums_out_{c}(%shim_noc_tile_{c}_0, S2MM, 0)")
    lines += [f"aie.shim_dma_allocation @weights_in_{i}(%shim_noc_tile_{i}_0, MM2S, 0)" for i in range(4)]
    return "\n".join(lines)


class ToolchainTest(unittest.TestCase):
    def test_missing_wheels_are_named_with_their_versions_and_the_way_to_get_them(self):
        with self.assertRaises(kernels.BuildError) as caught:
            kernels.check_toolchain({"mlir_aie": "0.9"})
        for text in ("mlir_aie 1.4.2 (found 0.9)", "llvm-aie", "(found none)", "pip install", "github.com/Xilinx"):
            self.assertIn(text, str(caught.exception))

    def test_the_pinned_versions_pass(self):
        kernels.check_toolchain(dict(kernels.PINNED))
        with self.assertRaises(kernels.BuildError):
            kernels.check_toolchain({**kernels.PINNED, "mlir_aie": "1.4.20"})

    def test_the_command_ends_with_one_clear_message(self):
        if kernels.installed():
            self.skipTest("the toolchain is here")
        done = subprocess.run([sys.executable, str(ROOT / "tools" / "tandem_npu_kernels.py"), "build"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("the toolchain for the NPU's cores is not here", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class LoweredDesignTest(unittest.TestCase):
    def test_the_parameters_address_is_found(self):
        for columns in (4, 8):
            self.assertEqual(kernels.parameter_address(lowered(columns), columns), 2048)

    def test_cores_that_differ_or_lack_it_are_refused(self):
        with self.assertRaisesRegex(kernels.BuildError, "expected one address"):
            kernels.parameter_address(lowered(4, address=lambda c, r: 2048 + c), 4)
        with self.assertRaisesRegex(kernels.BuildError, "expected the parameter of 32 cores, found 16"):
            kernels.parameter_address(lowered(4), 8)

    def test_streams_on_other_channels_are_refused(self):
        kernels.check_shims(lowered(8), kernels.streams_of("product", 8))
        with self.assertRaisesRegex(kernels.BuildError, "activations_in_0: expected"):
            kernels.check_shims(lowered(4, channel=lambda name, n: 0), kernels.streams_of("product", 4))
        for kind in kernels.TILES:
            with self.assertRaisesRegex(kernels.BuildError, "found None"):
                kernels.check_shims("", kernels.streams_of(kind, 4))
        self.assertEqual(kernels.streams_of("attention", 8)["queries_in_7"], (7, "MM2S", 1))
        self.assertEqual(kernels.streams_of("rows", 8)["pairs_in_7"], (7, "MM2S", 0))

    def test_buffers_that_a_core_cannot_load_vectors_from_are_refused(self):
        kernels.check_alignment(lowered(4))
        with self.assertRaisesRegex(kernels.BuildError, "multiples of 64, found chunks_0_0 at 2080, chunks_0_1 at 2080"):
            kernels.check_alignment(lowered(4, address=lambda c, r: 2080))
        with self.assertRaisesRegex(kernels.BuildError, "found no buffers"):
            kernels.check_alignment('%b = aie.buffer(%mem_tile_0_1) {address = 0 : i32, sym_name = "a"} : memref<8xi32>')
        with self.assertRaisesRegex(kernels.BuildError, "found a at no address"):
            kernels.check_alignment('%b = aie.buffer(%tile_0_2) {sym_name = "a"} : memref<8xi32>')


class AieApiTest(unittest.TestCase):
    """tools/check_aie_api.py with our stand-in for the headers; with AMD's where TANDEM_AIE_API names a checkout of them."""

    def check(self, folder, kernel: str | None = None) -> tuple[int, str]:
        with tempfile.TemporaryDirectory() as scratch:
            arguments = []
            if kernel is not None:
                (pathlib.Path(scratch) / "kernel.cc").write_text(kernel)
                arguments = ["--kernels", scratch]
            done = subprocess.run([sys.executable, str(ROOT / "tools/check_aie_api.py"), str(folder), *arguments], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def test_the_kernels_use_what_is_there(self):
        for folder in filter(None, [ROOT / "npu-worker/kernels/host_aie_api", os.environ.get("TANDEM_AIE_API")]):
            code, text = self.check(folder)
            self.assertEqual((code, text.count("\n")), (0, 6), text)

    def test_what_is_not_there_is_found(self):
        code, text = self.check(ROOT / "npu-worker/kernels/host_aie_api",
                                '#include <aie_api/aie.hpp>\nvoid f(float* p) { aie::store_v(p, aie::zeroes<float, 16>()); }\n')
        self.assertEqual(code, 1, text)
        self.assertIn("kernel.cc:2:", text)
        self.assertIn("no member named 'zeroes' in namespace 'aie'", text)

    def test_a_folder_without_headers_is_said(self):
        code, text = self.check(ROOT / "tools")
        self.assertEqual(code, 1)
        self.assertIn("expected a folder with include/aie_api/aie.hpp", text)


IRON = {"__init__.py": "from .fifo import Fifo\nfrom .program import Program\n",
        "fifo.py": "class Fifo:\n    def __init__(self, kind, *, depth=2): pass\n    def cons(self, depth=None): pass\n",
        "program.py": "class Program:\n    def __init__(self, device, fifos): pass\n",
        "device/__init__.py": "from .tile import Tile\n_NAME_TO_BASE: dict = {'npu1': 'NPU1'}\n",
        "device/tile.py": "class Tile:\n    def __init__(self, col=None, row=None): pass\n"}
DESIGN = """from aie.iron import Fifo, Program
from aie.iron.device import NPU1, Tile
fifo = Fifo(int, depth=1)
fifo.cons(3)
Program(NPU1(), [fifo, Tile(1, row=2)])
"""


class IronApiTest(unittest.TestCase):
    """tools/check_iron_api.py: what it finds in a small IRON; our designs, with a checkout of mlir-aie where TANDEM_MLIR_AIE names one."""

    def check(self, design: str) -> list[str]:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            for name, text in IRON.items():
                path = folder / "python" / "iron" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            (folder / "design.py").write_text(design)
            return check_iron_api.Design(folder / "design.py", check_iron_api.Checkout(folder)).errors

    def test_what_fits_passes(self):
        self.assertEqual(self.check(DESIGN), [])

    def test_what_does_not_fit_is_found(self):
        for old, new, expected in (("import Fifo,", "import Fifa,", "design.py:1: no Fifa in aie.iron"), ("NPU1, Tile", "NPU7, Tile", "no NPU7 in aie.iron.device"),
                                   ("depth=1", "width=1", "design.py:3: Fifo: no argument 'width'"), ("int, depth=1", "int, 1", "2 arguments by place, of at most 1"),
                                   ("Fifo(int, ", "Fifo(", "'kind' is missing"), ("cons(3)", "cons(3, depth=3)", "'depth' given twice"),
                                   ("cons(3)", "prod(3)", "no class of IRON has a method prod"), ("Tile(1, row=2)", "Tile(1, 2, 3)", "3 arguments by place")):
            self.assertIn(expected, "\n".join(self.check(DESIGN.replace(old, new))), new)

    def test_our_designs(self):
        if "TANDEM_MLIR_AIE" not in os.environ:
            self.skipTest("TANDEM_MLIR_AIE names no checkout of mlir-aie")
        done = subprocess.run([sys.executable, str(ROOT / "tools/check_iron_api.py"), os.environ["TANDEM_MLIR_AIE"]], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("runs through IRON: "), 8, done.stdout)

    def test_a_folder_without_iron_is_said(self):
        done = subprocess.run([sys.executable, str(ROOT / "tools/check_iron_api.py"), str(ROOT / "tools")], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("expected a folder with python/iron/__init__.py", done.stderr)


class NumbersTest(unittest.TestCase):
    def test_the_designs_buffers_are_the_headers(self):
        # CoreMemoryNeeded of tile_shape.h, which NpuTileBudgetTest holds.
        for weights, needed in (("int8", 55360), ("int4", 47168)):
            tile = product.Tile.of(weights)
            total = 2048 + product.PARAMETER_BYTES + product.DEPTH * (tile.weights + tile.activations) + tile.sums
            self.assertEqual(total, needed)

    def test_the_other_designs_buffers_are_the_headers(self):
        # kAttentionCoreBytes and kRowsCoreBytes, which NpuAttentionLayoutTest and NpuRowsLayoutTest hold.
        held = attention.QUERY_TILE_BYTES + placement.DEPTH * attention.CHUNK_BYTES + attention.OUT_BYTES + attention.PROGRESS_BYTES
        self.assertEqual(placement.STACK_BYTES + held, 61824)
        held = placement.DEPTH * (rows.PAIR_BYTES + rows.CHUNK_BYTES) + rows.ROW_BYTES + rows.PARAMETER_BYTES
        self.assertEqual(placement.STACK_BYTES + held, 51264)
        sizes = [placement.STACK_BYTES, product.PARAMETER_BYTES, *vars(product.Tile.of("int4")).values(), *vars(product.Tile.of("int8")).values(),
                 attention.QUERY_TILE_BYTES, attention.CHUNK_BYTES, attention.OUT_BYTES, attention.PROGRESS_BYTES, rows.PAIR_BYTES, rows.CHUNK_BYTES,
                 rows.ROW_BYTES, rows.PARAMETER_BYTES]
        self.assertEqual([size for size in sizes if size % placement.ALIGNMENT != 0], [])
        self.assertEqual(placement.ALIGNMENT, kernels.ALIGNMENT)

    def test_a_description_names_the_xclbin(self):
        found = kernels.description("aie2p", "int4", 64, b"123456789", {"mlir_aie": "1", "llvm-aie": "2"})
        self.assertEqual(found["xclbin"], {"file": "product.xclbin", "bytes": 9, "crc32": zlib.crc32(b"123456789")})
        self.assertEqual(found["array"], {"rows": 4, "columns": 8})
        self.assertEqual((found["kind"], found["weights"], found["parameter_address"]), ("product", "int4", 64))
        found = kernels.description("aie2", "attention", None, b"", {"mlir_aie": "1", "llvm-aie": "2"})
        self.assertEqual((found["kind"], found["tile"], found["xclbin"]["file"]), ("attention", {"values": 4096}, "attention.xclbin"))
        self.assertNotIn("parameter_address", found)


if __name__ == "__main__":
    unittest.main()
