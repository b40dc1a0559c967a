"""Weights lie in memory once, also after the loader died and came back."""
import os
import pathlib
import re
import select
import signal
import time
import unittest

from cluster import GOLDEN, Cluster, greedy

TINY = GOLDEN / "tiny"
PROMPT = "The creature opened the window and looked at the"
REGION = re.compile(r"/memfd:tandem-(embedding|layer\.\d+\.(attention|ffn))\b")


def regions_of(pid: int) -> dict[int, int]:
    """Inode and bytes of every region that a process holds open."""
    found = {}
    try:
        for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            if REGION.match(os.readlink(link)):
                info = os.stat(link)
                found[info.st_ino] = info.st_blocks * 512
    except OSError:
        return {}
    return found


def mapped_by(pid: int) -> set[int]:
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {int(line.split()[4]) for line in lines if len(line.split()) > 5 and REGION.match(line.split()[5])}


def arenas_of(pid: int) -> int:
    """Heaps of glibc's besides the first one: the part in use and the rest of it fill 64 MiB, at a multiple of that."""
    whole = 64 << 20
    lines = [line.split() for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()]
    spans = [(*(int(end, 16) for end in line[0].split("-")), line[1]) for line in lines if len(line) == 5]
    return sum(1 for (start, middle, used), (rest, end, left) in zip(spans, spans[1:])
               if start % whole == 0 and middle == rest and end == start + whole and (used, left) == ("rw-p", "---p"))


class LoaderReturnsTest(unittest.TestCase):
    def all_regions(self, c: Cluster) -> dict[int, int]:
        c.read_state()
        together = {}
        for pid in c.pids.values():
            together.update(regions_of(pid))
        return together

    def wait_for_loader(self, c: Cluster, old_pid: int, count: int) -> None:
        """Until another loader holds that many regions. It is asked again and again: there is no event across processes."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            c.read_state()
            if c.pids["loader"] != old_pid and len(regions_of(c.pids["loader"])) == count:
                return
            select.select([], [], [], 0.05)
        self.fail("the loader did not come back\n" + c.logs())

    def test_it_takes_its_regions_back(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            body = {"prompt": PROMPT, "ignore_eos": True, **greedy(200)}
            whole = c.complete(**body)["choices"][0]["text"]
            before = self.all_regions(c)
            self.assertGreater(len(before), 10)
            text = ""
            loader = c.pids["loader"]
            for number, event in enumerate(c.stream("/v1/completions", body)):
                if number == 3:
                    os.kill(loader, signal.SIGKILL)
                text += "".join(choice.get("text", "") for choice in event.get("choices", []))
            self.assertEqual(text, whole, "serving went on")
            self.wait_for_loader(c, loader, len(before))
            self.assertEqual(self.all_regions(c), before, "the very same files, no byte more")
            self.assertEqual(set(regions_of(c.pids["loader"])), set(before))
            # A worker that starts anew maps what was taken back.
            worker = c.pids["npu0"]
            os.kill(worker, signal.SIGKILL)
            self.assertEqual(c.complete(**body)["choices"][0]["text"], whole)
            c.read_state()
            self.assertNotEqual(c.pids["npu0"], worker)
            self.assertEqual(mapped_by(c.pids["npu0"]), set(before))
            self.assertEqual(self.all_regions(c), before)
            self.assertLessEqual(arenas_of(c.pids["gateway"]), 1, "its threads share two heaps, whoever dies")

    def test_a_region_that_somebody_wrote_to_is_packed_anew(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            body = {"prompt": PROMPT, **greedy(12)}
            whole = c.complete(**body)["choices"][0]["text"]
            before = self.all_regions(c)
            loader, worker = c.pids["loader"], c.pids["npu0"]
            for link in pathlib.Path(f"/proc/{loader}/fd").iterdir():
                if "layer.3.ffn" in os.readlink(link):
                    with open(link, "r+b") as pages:
                        pages.seek(4096)
                        byte = pages.read(1)
                        pages.seek(4096)
                        pages.write(bytes([byte[0] ^ 1]))
            # The next to fetch it makes the loader look: it ends, comes back and packs that one again.
            os.kill(worker, signal.SIGKILL)
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline:
                c.read_state()
                if c.pids["loader"] != loader and c.pids["npu0"] != worker:
                    break
                select.select([], [], [], 0.05)
            c.wait_ready()
            self.assertEqual(c.complete(**body)["choices"][0]["text"], whole)
            self.assertIn("expected checksum", c.logs())
            self.assertEqual(len(self.all_regions(c)), len(before))


if __name__ == "__main__":
    unittest.main(verbosity=2)
