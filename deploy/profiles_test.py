"""The profiles `gpu`, `npu` and `full` of deploy/docker on a machine without such devices: Mesa's software driver in place of a GPU, a stand-in for the
kernel driver (tests/fake_amdxdna) in place of an NPU, and nodes that lead to /dev/null in place of theirs. What it shows is that each profile starts, gives
its processes their nodes, groups and folders, and serves; it says nothing of the devices. Run by deploy/test.
"""
import contextlib
import unittest

from compose_cluster import FOLDER, PROJECT, ROOT, DOCKER, Deployment, run

PROCESSES = {
    "demo": ["loader-demo", "npu-worker-demo", "gpu-worker-demo", "gateway-demo"],
    "gpu": ["loader-gpu", "gpu-worker-gpu", "gateway-gpu"],
    "npu": ["loader-npu", "npu-worker-npu", "gateway-npu"],
    "full": ["loader", "npu-worker", "gpu-worker", "gateway"],
}
NODES = {"gpu": "/dev/dri/renderD128", "npu": "/dev/accel/accel0", "udmabuf": "/dev/udmabuf"}
GROUPS = {"RENDER_GROUP": 42105, "UDMABUF_GROUP": 42104}
SETTINGS = {"GPU": "llvmpipe", "NPU_KERNELS": FOLDER / "npu_packages", "NPU_STANDIN_SYS": FOLDER / "sys",
            **{f"{name.upper()}_NODE": f"/dev/null:{node}" for name, node in NODES.items()}, **GROUPS}
LLVMPIPE, STANDIN = "llvmpipe", "stand-in for the kernel driver"


def setUpModule():
    """What a machine with an NPU has outside of the containers: kernels, and a kernel that tells of the NPU."""
    run(str(ROOT / "tests/fake_amdxdna/make_sys.sh"), str(FOLDER / "sys"))
    made = run(DOCKER, "create", f"tandem-npu-standin:{PROJECT}").strip()
    try:
        run(DOCKER, "cp", f"{made}:/standin/npu_packages", str(FOLDER))
    finally:
        run(DOCKER, "rm", made)


@contextlib.contextmanager
def deployment(profile: str, **settings: object):
    made = Deployment(profile, PROCESSES[profile], {**SETTINGS, **settings}, (ROOT / "tests/deploy/npu_standin.yml",))
    try:
        yield made
    finally:
        made.down()


class ProfilesTest(unittest.TestCase):
    def test_1_every_profile_is_whole(self):
        for profile, processes in PROCESSES.items():
            made = Deployment(profile, processes)
            made.compose("config", "--quiet")
            # As it stands in the file: with the settings of .env and no others.
            text = made.compose("config")
            for process in processes:
                self.assertIn(f"\n  {process}:\n", text)

    def test_2_gpu(self):
        self.check("gpu", "gpu", [LLVMPIPE])

    def test_3_npu(self):
        self.check("npu", "npu", [STANDIN])

    def test_4_full(self):
        self.check("full", "split", [STANDIN, LLVMPIPE])

    def check(self, profile: str, plan: str, devices: list[str]) -> None:
        with deployment(profile) as d:
            d.up()
            status = d.status()
            self.assertEqual(status["plan"], plan)
            found = sorted(worker["device_name"] for worker in status["workers"])
            self.assertEqual(len(found), len(devices))
            for device, name in zip(devices, found):
                self.assertIn(device, name)
            self.assertLessEqual({edge["kind"] for edge in status["edges"]}, {"dma-buf", "host-pointer"}, "something is copied between containers")
            answer = d.chat("What is 12 + 30?", temperature=0, max_tokens=16)
            self.assertIn("42", answer)
            self.check_nodes(d)
            self.check_imports(d)
            print(f"   {profile}: plan {plan}, {found}, answer {answer!r}")

    def check_nodes(self, d: Deployment) -> None:
        for service in d.processes:
            expected = set() if service == d.gateway else {"udmabuf"} | {kind for kind in ("gpu", "npu") if service.startswith(kind)}
            there = {name for name, node in NODES.items() if (d.process(service) / f"root{node}").is_char_device()}
            self.assertEqual(there, expected, service)
            groups = next(line for line in (d.process(service) / "status").read_text().splitlines() if line.startswith("Groups:"))
            self.assertEqual({int(group) for group in groups.split()[1:]} & set(GROUPS.values()), set(GROUPS.values()) if expected else set(), service)

    def check_imports(self, d: Deployment) -> None:
        """A GPU's weights are the loader's own pages. The NPU's are copies in the array's order, which docs/npu.md says."""
        if not any(service.startswith("gpu") for service in d.processes):
            return
        page = d.request("GET", "/metrics/process/gpu0")[1]
        lines = [line for line in page.splitlines() if line.startswith("tandem_weights_imported_bytes{")]
        copied = [line for line in lines if 'import="upload"' in line and float(line.rsplit(" ", 1)[1]) > 0]
        self.assertTrue(lines)
        self.assertEqual(copied, [])

    def test_5_a_node_that_is_not_there_is_named(self):
        with deployment("gpu", GPU_NODE="/dev/dri/renderD999") as d:
            with self.assertRaisesRegex(AssertionError, r'"/dev/dri/renderD999": no such file or directory'):
                d.compose("up", "--detach", "--no-build", "gpu-worker-gpu")

    def test_6_kernels_that_are_not_there_are_named(self):
        (FOLDER / "none").mkdir(mode=0o755, exist_ok=True)
        with deployment("npu", NPU_KERNELS=FOLDER / "none") as d:
            d.compose("up", "--detach", "--no-build", *d.processes)
            d.wait_for(lambda: "/npu-kernels" in d.compose("logs", "--no-color", "npu-worker-npu"), "the npu-worker says what it lacks", 120)
            print("   " + d.compose("logs", "--no-color", "npu-worker-npu").splitlines()[-1][:200])


if __name__ == "__main__":
    unittest.main(verbosity=2)
