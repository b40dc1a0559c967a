#!/usr/bin/env python3
"""Scores of the demo model in every weight format, through Tandem's own API: starts a cluster for each, asks, prints one table.

    python3 bench/quality/formats.py [--bin build/release/bin] [arguments of run.py]
"""

import argparse
import contextlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FORMATS = ["bf16", "int8", "int4"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "build/release/bin", help="folder of the programs")
    options, rest = parser.parse_known_args()
    os.environ["TANDEM_BIN"] = str(options.bin.resolve())
    sys.path.insert(0, str(ROOT / "tests/integration"))
    from cluster import Cluster

    model = next((ROOT / "models/demo").glob("*.gguf"))
    with contextlib.ExitStack() as stack:
        clusters = {f: stack.enter_context(Cluster(model, quant=f, npu="cpu", gpu="none")) for f in FORMATS}
        endpoints = [part for f, c in clusters.items() for part in ("--endpoint", f"{f}=http://{c.http}/v1")]
        return subprocess.run([sys.executable, str(HERE / "run.py"), *endpoints, *rest], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
