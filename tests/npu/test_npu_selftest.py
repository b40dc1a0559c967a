"""`tandem-npu-worker --selftest` over the stand-in for the kernel driver: its report, and what it says when something is wrong."""
import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["TANDEM_NPU_BUILD"])
MODEL = os.environ["FAKE_AMDXDNA_MODEL"]


def selftest(**environment) -> subprocess.CompletedProcess:
    command = [ROOT / "tests/fake_amdxdna/with_fake_npu.sh", BUILD / "tests/libfake_amdxdna.so", BUILD / "bin/tandem-npu-worker", "--selftest"]
    return subprocess.run(command, env={**os.environ, "TANDEM_NPU_KERNELS": str(BUILD / "tests/npu_packages"), **environment},
                          capture_output=True, text=True, timeout=500)


class SelftestTest(unittest.TestCase):
    def test_report(self):
        result = selftest()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("(stand-in for the kernel driver) at 0000:c5:00.1, " + {"phoenix": "AIE2,", "strix": "AIE2P,"}[MODEL], result.stdout)
        self.assertRegex(result.stdout, r"versions  XRT 2\.\d+, amdxdna stand-in .*, firmware 1\.\d\.\d\.\d+")
        for weights in ("int8", "int4"):
            self.assertIn(f"product, {weights} weights (package of mlir-aie none: for the stand-in", result.stdout)
        for kind in ("attention", "rows"):
            self.assertIn(f"\n{kind} (package of mlir-aie none: for the stand-in", result.stdout)
        self.assertEqual(result.stdout.count("  ok\n"), 26)
        self.assertEqual(result.stdout.count(" GMAC/s, "), 2)
        self.assertTrue(result.stdout.endswith("result    all kernels agree with their twins\n"), result.stdout)

    def test_packages_of_products_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            for package in (BUILD / "tests/npu_packages").iterdir():
                if package.name.endswith(("int8", "int4", "rows")):
                    (pathlib.Path(folder) / package.name).symlink_to(package)
            result = selftest(TANDEM_NPU_KERNELS=folder)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"\nattention: no package .*/aie2p?_attention: its kernels did NOT run\nrows \(")
        self.assertEqual(result.stdout.count("  ok\n"), 22)

    def test_a_device_that_fails(self):
        result = selftest(FAKE_AMDXDNA_FAULTS="exec 3 lost")
        self.assertEqual(result.returncode, 1)
        self.assertIn("ended by: UNAVAILABLE: NPU: the command was aborted, its context is lost", result.stdout)
        self.assertTrue(result.stdout.endswith("result    FAILED\n"), result.stdout)

    def test_old_firmware(self):
        result = selftest(FAKE_AMDXDNA_FIRMWARE="1.0.0.1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("or newer, found 1.0.0.1", result.stdout)

    def test_no_kernels(self):
        result = selftest(TANDEM_NPU_KERNELS="/nowhere")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nowhere/aie2", result.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
