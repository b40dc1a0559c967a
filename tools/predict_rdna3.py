#!/usr/bin/env python3
"""Predicts how fast Gemma 3 runs on RDNA3 graphics that nobody measured yet, from bytes, bandwidth and what Mesa's compiler makes of the kernels.

  tools/predict_rdna3.py build/release/bench/kernel_stats [--icd FILE] [--library_path FOLDER] [--model 27b]

A prediction, no measurement. A step takes what is longer of
  - reading: all weights once (and keys and values, which are left out: contexts are short), at 80 % of the memory's peak;
  - computing: multiplications at the device's peak for the instruction that the kernel uses, times the share of that instruction's cycles among all
    cycles in which the compiler's code occupies the vector unit (a loop's body counts once, as does what stands around it, so real loops do better; waiting
    for memory is not in it, so real kernels do worse).
Which kernel a number of tokens takes: docs/vulkan.md. Needs RADV as tools/rdna3_report.py does.
"""
import argparse
import tempfile

import rdna3_report

# peak of memory in GB/s, compute units, clock in GHz: AMD's and the memory's data sheets
DEVICES = {"GFX1103": ("Radeon 780M, DDR5-5600 in two channels", 89.6, 12, 2.7), "GFX1151": ("Radeon 8060S, LPDDR5X-8000, 256 bits", 256.0, 40, 2.9)}
READS = 0.8
# layers, hidden, ffn, query heads, key heads, head width, vocabulary
MODELS = {"1b": (26, 1152, 6912, 4, 1, 256, 262144), "4b": (34, 2560, 10240, 8, 4, 256, 262144), "12b": (48, 3840, 15360, 16, 8, 256, 262144),
          "27b": (62, 5376, 21504, 32, 16, 128, 262144)}
BYTES = {"int4": 18 / 32, "int8": 34 / 32}
# cycles of a SIMD for the 32 lanes of a subgroup: an instruction, and a 16 x 16 x 16 matrix product (512 operations a cycle and compute unit)
CYCLES, MATRIX_CYCLES, SIMDS = 1, 32, 2
STEPS = ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (512, 128))


def weights_of(model):
    """(of all layers, of the head)."""
    layers, hidden, ffn, heads, kv_heads, width, vocabulary = MODELS[model]
    return layers * hidden * ((2 * heads + 2 * kv_heads) * width + 3 * ffn), vocabulary * hidden


def share(statistics, count, cycles):
    """Of the cycles of a kernel's vector unit that its dot products or matrix products take."""
    useful = statistics[count] * cycles
    return useful / (useful + (statistics["Instructions"] - statistics[count]) * CYCLES)


def products_per_second(rows, device, weights, tokens):
    """Multiplications a second, and the kernel that makes them."""
    _, _, units, clock = DEVICES[device]
    simds = units * SIMDS * clock * 1e9
    if tokens < 16:
        # as many tokens at once as there are kernels measured for: one or eight
        wanted = "1" if tokens == 1 else "8"
        kernel, _, statistics = next(row for row in rows if row[0] == f"dot_{weights}" and row[1][3] == wanted)
        return simds * 32 * 4 * share(statistics, "Count dot", CYCLES) * (min(tokens, 8) / int(wanted)), kernel
    shape = {16: "2x1_4x1", 32: "2x2_4x1"}.get(tokens, "2x4_2x2")
    kernel, _, statistics = next(row for row in rows if row[0] == f"tiles_{weights}_{shape}")
    return simds * 16 * 16 * 16 / MATRIX_CYCLES * share(statistics, "Count wmma", MATRIX_CYCLES), kernel


def predict(rows, device, model):
    name, bandwidth, units, clock = DEVICES[device]
    layers, head = weights_of(model)
    print(f"\n**{name}**, Gemma 3 {model.upper()}: a prediction\n({bandwidth} GB/s, {units} compute units, {clock} GHz)\n")
    print("| weights | tokens a step | kernel | reading, ms | computing, ms | tok/s |\n|---|---|---|---|---|---|")
    for weights, of_weight in BYTES.items():
        for tokens, logit_rows in STEPS:
            prefill = tokens > 64
            rate, kernel = products_per_second(rows, device, weights, tokens)
            reading = (layers + head) * of_weight / (bandwidth * 1e9 * READS)
            computing = (layers * tokens + head * (1 if prefill else logit_rows)) / rate
            label = f"{tokens} of a prompt" if prefill else f"{tokens}"
            print(f"| {weights} | {label} | `{kernel}` | {reading * 1e3:.0f} | {computing * 1e3:.0f} | {tokens / max(reading, computing):.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel_stats")
    parser.add_argument("--icd", help="the ICD file of RADV")
    parser.add_argument("--library_path", help="where that RADV's own libraries lie")
    parser.add_argument("--model", choices=MODELS, default="27b")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        icd, library_path = rdna3_report.find_icd(options, folder)
        for device, family in rdna3_report.FAMILIES.items():
            predict(rdna3_report.run(options, icd, library_path, family), device, options.model)


if __name__ == "__main__":
    main()
