#!/usr/bin/env python3
"""Measures how close each device, plan and weight format is to the reference, and writes docs/correctness.md.

    tools/correctness_table.py [BUILD_DIR]        (default: build/release)

Runs the golden test programs of the devices and the golden comparison over the public API.
"""
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release").resolve()
PROGRAMS = ["cpu_golden_test", "vulkan_golden_test"]

HEAD = """# Correctness

Written by `tools/correctness_table.py`; do not edit by hand. Machine: {machine}.

The reference is Hugging Face transformers in float32 (tests/golden/README.md). "Largest difference"
is that of log-probability over the reference's ten best tokens, over every position of every
prompt. Greedy tokens are compared wherever the reference's margin between the two best logits is
over 0.05. Bounds: 0.01 on the CPU device with float32 activations, 0.02 on Vulkan and for plans
with it. For int8 and int4 weights the reference is the float32 forward run on the dequantised
weights; with int8 or auto activations, or int8 keys and values, the mean Kullback-Leibler
divergence from it is the figure to look at.

Sets named "full" are kept outside the repository; the others are committed.
"""


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def device_rows() -> list[list[str]]:
    rows = []
    for name in PROGRAMS:
        program = BUILD / "tests" / name
        result = subprocess.run([str(program)], cwd=ROOT, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{name} failed:\n{result.stdout[-3000:]}{result.stderr[-1000:]}")
        for line in result.stdout.splitlines():
            if not line.startswith("golden device="):
                continue
            fields = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))
            fields = {key: value.strip('"') for key, value in fields.items()}
            row = [fields.get("device", ""), fields.get("set", ""), fields.get("weights", "bf16"), fields.get("activations", "float32"),
                   fields.get("kv", ""), fields.get("stages", ""), fields.get("chunk", ""), fields.get("positions", ""),
                   fields.get("max_top10", ""), fields.get("mean_kl", ""), fields.get("greedy", "")]
            # Two tests may ask the same of a device.
            if row not in rows:
                rows.append(row)
    return rows


def api_rows() -> list[list[str]]:
    sys.path.insert(0, str(ROOT / "tests/integration"))
    from golden_api import golden_folders, run_set
    from test_golden_api import PLANS
    rows = []
    for folder in golden_folders():
        models = [None] + (sorted(folder.glob("*.gguf")) if "1b" in folder.name else [])
        for model in models:
            for plan, (flags, bound) in PLANS.items():
                result = run_set(folder, plan, model, **flags)
                print(result, flush=True)
                if result.largest_difference > bound or result.greedy_wrong:
                    sys.exit(f"out of bounds: {result}")
                name = result.set_name if model is None else f"{folder.name} (GGUF)"
                rows.append([name, plan, result.devices, str(result.positions), f"{result.largest_difference:.5f}",
                             f"{result.greedy_checked} equal, {result.greedy_wrong} different"])
    return rows


def main() -> None:
    import os
    os.environ.setdefault("TANDEM_BIN", str(BUILD / "bin"))
    text = HEAD.format(machine=f"{platform.machine()}, {os.cpu_count()} cores, Linux")
    text += "\n## Over the public API, by plan (bf16 weights)\n\n"
    text += table(["set", "plan", "devices", "positions", "largest difference", "greedy tokens"], api_rows())
    text += "\n## By device, weight format and activations\n\n"
    text += table(["device", "set", "weights", "activations", "KV", "stages", "tokens a step", "positions", "largest difference",
                   "mean KL", "greedy"], device_rows())
    (ROOT / "docs/correctness.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
