"""tools/tandem_npu_kernels.py up to the toolchain: what it says without one, and what it reads from a lowered design."""
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
import product  # noqa: E402
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
        kernels.check_shims(lowered(8), 8)
        with self.assertRaisesRegex(kernels.BuildError, "activations_in_0: expected"):
            kernels.check_shims(lowered(4, channel=lambda name, n: 0), 4)
        with self.assertRaisesRegex(kernels.BuildError, "found None"):
            kernels.check_shims("", 4)


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


class NumbersTest(unittest.TestCase):
    def test_the_designs_buffers_are_the_headers(self):
        # CoreMemoryNeeded of tile_shape.h, which NpuTileBudgetTest holds.
        for weights, needed in (("int8", 55360), ("int4", 47168)):
            tile = product.Tile.of(weights)
            total = 2048 + product.PARAMETER_BYTES + product.DEPTH * (tile.weights + tile.activations) + tile.sums
            self.assertEqual(total, needed)

    def test_a_description_names_the_xclbin(self):
        found = kernels.description("aie2p", "int4", 64, b"123456789", {"mlir_aie": "1", "llvm-aie": "2"})
        self.assertEqual(found["xclbin"], {"file": "product.xclbin", "bytes": 9, "crc32": zlib.crc32(b"123456789")})
        self.assertEqual(found["array"], {"rows": 4, "columns": 8})


if __name__ == "__main__":
    unittest.main()
