#!/usr/bin/env python3
"""Keeps a cluster under mixed load while its processes are killed at random, and shows that nothing is lost and nothing grows.

    bench/soak/soak.py [MODEL] [--seconds 3600] [--clients 6] [--pause 0.2] [--kill_every 20] [--seed 1] [--stalls 0] [--up FLAG=VALUE ...] [--report FILE]

Clients ask whole and streamed questions whose answers are known, leave in the middle, close one side, send nonsense and look at the metrics. Meanwhile
workers and the loader are killed (SIGKILL), one every KILL_EVERY seconds on average. A request is lost when its answer is not the right one, is an error
other than a refusal with Retry-After, or does not come. (The gateway is not killed: a connection to it cannot outlive it.) Memory and descriptors are
read once the cluster is warm and again after the load, when it is quiet: the gateway, which lives all the time, must not have grown by more than
--grow MiB, no process may hold more descriptors, and no connection whose client has left may still be open after 15 s. Exit code 1 otherwise.
On a machine that stands still at times, because its processes are stopped, --stalls says for how many seconds: what must happen in time gets so much longer.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import random
import select
import signal
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
from cluster import GOLDEN, Cluster  # noqa: E402
from traffic import Client, Counts, questions, texts_of  # noqa: E402

QUIET_SECONDS = 15
RESTART_SECONDS = 60
CLOSE_WAIT = "08"


def memory_mib(pid: int) -> float:
    """Private memory: what is shared (weights, edges) belongs to several and is counted nowhere."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return round((int(fields["VmRSS"].split()[0]) - int(fields["RssShmem"].split()[0]) - int(fields["RssFile"].split()[0])) / 1024, 1)


class Sample:
    """Memory and descriptors of every process, and connections that the gateway has not closed though their client has."""

    def __init__(self, c: Cluster):
        c.read_state()
        self.memory, self.descriptors = {}, {}
        for name, pid in c.pids.items():
            if pid == 0:
                continue
            try:
                self.memory[name] = memory_mib(pid)
                self.descriptors[name] = len(os.listdir(f"/proc/{pid}/fd"))
            except (FileNotFoundError, ProcessLookupError, KeyError):
                continue  # it has just ended
        port = f":{int(c.http.rsplit(':', 1)[1]):04X}"
        sockets = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # Those that belong to no descriptor (inode 0) were never accepted.
        self.close_wait = sorted(s[2] for s in sockets if s[1].endswith(port) and s[3] == CLOSE_WAIT and s[9] != "0")


class Killer(threading.Thread):
    """Ends workers and the loader, one at a time, and sees that each comes back."""

    def __init__(self, c: Cluster, options: argparse.Namespace):
        super().__init__(daemon=True)
        self.cluster, self.every, self.random = c, options.kill_every, random.Random(options.seed)
        self.patience = RESTART_SECONDS + options.stalls
        self.stopping = threading.Event()
        self.kills: list[str] = []
        self.missing: list[str] = []

    def run(self) -> None:
        while not self.stopping.wait(self.every * self.random.uniform(0.5, 1.5)):
            state = self.cluster.read_state()
            victim = self.random.choice([p for p in state["processes"] if p["name"] != "gateway" and p["pid"] != 0] or [None])
            if victim is None:
                continue
            try:
                os.kill(victim["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills.append(victim["name"])
            self.await_restart(victim)

    def await_restart(self, victim: dict) -> None:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            self.cluster.read_state()
            pid = self.cluster.pids[victim["name"]]
            if pid not in (0, victim["pid"]):
                return
            select.select([], [], [], 0.1)
        self.missing.append(victim["name"])


class Soak:
    def __init__(self, c: Cluster, options: argparse.Namespace):
        self.cluster, self.options, self.counts = c, options, Counts()
        self.stuck: dict[str, float] = {}
        self.longest_close_wait = 0.0

    def run(self) -> dict:
        c, options = self.cluster, self.options
        self.asked = questions(c.model, options.questions, options.longest, random.Random(options.seed))
        self.answers = {}
        for question in self.asked:
            status, answer, _ = c.request("POST", question.path, question.body.encode())
            assert status == 200, (question, answer)
            self.answers[question] = texts_of(answer)
        self.load(options.warm)
        warm = self.quiet(lambda sample: bool(sample.close_wait))
        killer = Killer(c, options)
        begin = time.monotonic()
        self.load(options.seconds, killer)
        seconds = round(time.monotonic() - begin)
        end = self.quiet(lambda sample: bool(sample.close_wait or self.grown(warm, sample)))
        return {"seconds": seconds, "requests": self.counts.total, "by_kind": dict(self.counts.by_kind),
                "told_to_wait": self.counts.busy, "kills": len(killer.kills), "killed": {n: killer.kills.count(n) for n in set(killer.kills)},
                "lost": len(self.counts.lost), "losses": self.counts.lost[:20], "not_restarted": killer.missing,
                "memory_mib": {"start": warm.memory, "end": end.memory}, "descriptors": {"start": warm.descriptors, "end": end.descriptors},
                "longest_close_wait_seconds": round(self.longest_close_wait, 1), "recoveries": c.status()["recoveries"],
                "problems": self.problems(warm, end, killer)}

    def load(self, seconds: float, *others: threading.Thread) -> None:
        stop = threading.Event()
        clients = [Client(self.cluster.http, self.asked, self.answers, self.counts, self.options.seed * 1000 + i, self.options.pause, stop)
                   for i in range(self.options.clients)]
        for other in others:
            other.stopping = stop
        for thread in [*clients, *others]:
            thread.start()
        begin = time.monotonic()
        self.watch(begin, begin + seconds)
        stop.set()
        for thread in [*clients, *others]:
            thread.join()

    def watch(self, begin: float, until: float) -> None:
        """Follows the cluster, and how long connections stay open whose client has left."""
        shown = time.monotonic()
        while time.monotonic() < until:
            select.select([], [], [], 1)
            self.look()
            if time.monotonic() - shown >= 60:
                shown = time.monotonic()
                sample = Sample(self.cluster)
                print(f"{time.monotonic() - begin:6.0f} s  {self.counts.total} requests, {len(self.counts.lost)} lost, gateway "
                      f"{sample.memory.get('gateway')} MiB, {sample.descriptors.get('gateway')} descriptors", flush=True)

    def look(self) -> Sample:
        sample, now = Sample(self.cluster), time.monotonic()
        self.stuck = {peer: self.stuck.get(peer, now) for peer in sample.close_wait}
        self.longest_close_wait = max([self.longest_close_wait, *(now - since for since in self.stuck.values())])
        return sample

    def quiet(self, unsettled) -> Sample:
        """The cluster without load, once it has let go of what it held for it; at the latest after a while."""
        self.cluster.wait_ready()
        deadline = time.monotonic() + QUIET_SECONDS + self.options.stalls
        sample = self.look()
        while time.monotonic() < deadline and unsettled(sample):
            select.select([], [], [], 0.5)
            sample = self.look()
        return sample

    def grown(self, warm: Sample, end: Sample) -> list[str]:
        found = [f"{name}: {warm.descriptors[name]} descriptors when warm, {count} at the end"
                 for name, count in end.descriptors.items() if count > warm.descriptors.get(name, count) + self.options.spare_descriptors]
        growth = end.memory["gateway"] - warm.memory["gateway"]
        if growth > self.options.grow:
            found.append(f"the gateway grew by {growth:.1f} MiB")
        return found

    def problems(self, warm: Sample, end: Sample, killer: Killer) -> list[str]:
        found = self.grown(warm, end) + [f"{name} was not started again" for name in killer.missing]
        if self.counts.lost:
            found.append(f"{len(self.counts.lost)} requests were lost")
        if self.longest_close_wait > QUIET_SECONDS + self.options.stalls:
            found.append(f"a connection that its client had closed stayed open for {self.longest_close_wait:.0f} s")
        if not killer.kills:
            found.append("nothing was killed: the run is too short for --kill_every")
        return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(GOLDEN / "tiny"))
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--warm", type=float, default=None, help="seconds of load before memory is read first; default: a tenth, 5 to 60")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0.2, help="mean seconds between a client's requests")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--longest", type=int, default=60, help="tokens of an answer")
    parser.add_argument("--kill_every", type=float, default=20)
    parser.add_argument("--grow", type=float, default=16, help="MiB that the gateway may grow by")
    parser.add_argument("--spare_descriptors", type=int, default=4, help="more that a process may hold than when warm: keep-alive and scrapes come and go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stalls", type=float, default=0, help="seconds for which the machine may stand still")
    parser.add_argument("--up", nargs="*", default=["npu=cpu,cpu", "gpu=none", "plan=layers", "threads=1"], metavar="FLAG=VALUE")
    parser.add_argument("--report", help="JSON file for the result")
    options = parser.parse_args()
    if options.warm is None:
        options.warm = min(60.0, max(5.0, options.seconds / 10))
    return options


def main() -> int:
    options = arguments()
    flags = dict(flag.split("=", 1) for flag in options.up)
    if options.stalls:
        flags.setdefault("recovery_timeout", f"{60 + options.stalls:.0f}s")
    with Cluster(options.model, **flags) as c:
        result = Soak(c, options).run()
    result |= {"machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors", "command": " ".join(sys.argv)}
    text = json.dumps(result, indent=1)
    print(text)
    if options.report:
        pathlib.Path(options.report).write_text(text + "\n")
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
