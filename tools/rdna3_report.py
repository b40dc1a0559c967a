#!/usr/bin/env python3
"""What Mesa's RADV makes of every kernel for RDNA3 graphics that need not be there (Radeon 780M: GFX1103; Radeon 8060S: GFX1151).

  tools/rdna3_report.py build/release/bench/kernel_stats [--icd FILE] [--library_path FOLDER] [--markdown]

Prints a table for each device and fails where a kernel spills registers, uses scratch memory, reads less than 32 bits at a time, is
not made for subgroups of 32 though it needs them, or has no dot product or matrix instruction though it is written with them. Exit
status 77: there is no RADV that compiles for these devices (Mesa 24 to 25; tools/fetch_mesa.sh build/mesa unpacks one on Debian 12).
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FAMILIES = {"GFX1103": "phoenix", "GFX1151": "gfx1151"}
SKIPPED = 77


def skip(why):
    print(f"rdna3_report: skipped: {why}")
    sys.exit(SKIPPED)


def find_icd(options, folder):
    """The ICD file to use and the folder of the driver's own libraries."""
    if options.icd:
        return options.icd, options.library_path
    root = pathlib.Path(__file__).resolve().parent.parent / "build/mesa/tree/usr/lib/x86_64-linux-gnu"
    library = root / "libvulkan_radeon.so"
    if not library.exists():
        skip(f"{library} is not there: tools/fetch_mesa.sh build/mesa")
    icd = pathlib.Path(folder) / "radeon.json"
    icd.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": str(library), "api_version": "1.4.0"}}))
    return str(icd), str(root)


def run(options, icd, library_path, family):
    """The lines of kernel_stats, as (kernel, constants, {statistic: number})."""
    environment = dict(os.environ, RADV_FORCE_FAMILY=family, NODEVICE_SELECT="1", VK_ICD_FILENAMES=icd, VK_DRIVER_FILES=icd,
                       MESA_SHADER_CACHE_DISABLE="true", LD_LIBRARY_PATH=library_path or "")
    done = subprocess.run([options.kernel_stats], env=environment, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0 and "Unknown family" in done.stderr:
        skip(f"this RADV does not know {family}")
    if done.returncode != 0 and not done.stdout.startswith("device"):
        skip(f"RADV does not start for {family}: {done.stderr.strip().splitlines()[-1:]}")
    if done.returncode != 0:
        sys.exit(f"rdna3_report: kernel_stats ended with {done.returncode} for {family}:\n{done.stdout[-300:]}{done.stderr[-300:]}")
    return parse(done.stdout)


def parse(text):
    rows = []
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+) \{([ \d]*)\}:(.*)", line)
        if not match:
            continue
        statistics = {name.strip(): float(value) for name, value in re.findall(r"  ([A-Za-z][\w /-]*?) (-?[\d.]+)(?=  |$)", match[3])}
        rows.append((match[1], match[2].split(), statistics))
    return rows


def faults(kernel, statistics):
    """What must not be, as texts."""
    found = []
    for name in ("Spilled VGPRs", "Spilled SGPRs", "Scratch size", "Count scratch", "Count narrow"):
        if statistics.get(name, 0) > 0:
            found.append(f"{name} {statistics[name]:.0f}")
    wants_dot = kernel.startswith(("dot_", "stream_"))
    wants_wmma = kernel.startswith(("tiles_", "attention_matrix_"))
    if "Count dot" not in statistics:
        return found + ["the driver gives no assembly"]
    if wants_dot and statistics["Count dot"] == 0:
        found.append("no dot product")
    if wants_wmma and statistics["Count wmma"] == 0:
        found.append("no matrix instruction")
    needs_32 = wants_dot or wants_wmma or kernel.endswith("_q8")
    if needs_32 and statistics.get("Subgroup size") != 32:
        found.append(f"subgroups of {statistics.get('Subgroup size', 0):.0f}")
    return found


COLUMNS = (("VGPRs", "VGPRs"), ("Spilled VGPRs", "spilled"), ("Subgroups per SIMD", "waves"), ("LDS size", "LDS"), ("Subgroup size", "wave"),
           ("Count dot", "dot4"), ("Count wmma", "WMMA"), ("Count wide", "128-bit loads"), ("Count narrow", "narrow"), ("Instructions", "instructions"),
           ("Latency", "cycles of latency"), ("Inverse Throughput", "cycles of throughput"))


def table(device, rows, markdown):
    names = [label for _, label in COLUMNS]
    if markdown:
        print(f"\n**{device}**\n\n| kernel | constants | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}")
    else:
        print(f"\n{device}\n{'kernel':28} {'constants':18} " + " ".join(f"{name:>8.8}" for name in names))
    for kernel, constants, statistics in rows:
        cells = ["" if column not in statistics else f"{statistics[column]:.0f}" for column, _ in COLUMNS]
        if markdown:
            print(f"| `{kernel}` | {' '.join(constants)} | {' | '.join(cells)} |")
        else:
            print(f"{kernel:28} {' '.join(constants):18} " + " ".join(f"{cell:>8}" for cell in cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel_stats")
    parser.add_argument("--icd", help="the ICD file of RADV")
    parser.add_argument("--library_path", help="where that RADV's own libraries lie")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        icd, library_path = find_icd(options, folder)
        for device, family in FAMILIES.items():
            rows = run(options, icd, library_path, family)
            names = {kernel for kernel, _, _ in rows}
            for prefix in ("dot_", "stream_", "tiles_", "attention_matrix_", "attention_tile_"):
                if not any(name.startswith(prefix) for name in names):
                    bad.append(f"{device}: no kernel {prefix}* was compiled")
            table(device, rows, options.markdown)
            bad += [f"{device}: {kernel} {{{' '.join(constants)}}}: {fault}"
                    for kernel, constants, statistics in rows for fault in faults(kernel, statistics)]
    print(f"\n{len(bad)} faults")
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
