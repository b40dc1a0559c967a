#!/usr/bin/env python3
"""Predicts how fast Gemma 3 27B runs on an NPU beside an integrated GPU under each plan: the tables of docs/npu.md. A prediction, no measurement.

    tools/predict_npu.py

The NPU multiplies at the rate that the kernel's cycles give, or (the bound) at what others measured of int8 products; a decode step pads its token to a
whole block. The GPU takes what tools/predict_rdna3.py found for it (docs/performance.md): a token of a prompt of 512, a token of decode. Under `split` and
`hybrid` two micro-batches let both compute at once, so a prompt's token takes what is longer; a decoded one takes the sum. Hand-overs, attention over keys,
and what the NPU's host computes (norms, GeGLU, packing, about 1 MB of memory traffic a layer and token) are not in it: upper bounds.
"""
LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, WIDTH = 62, 5376, 21504, 32, 16, 128
ATTENTION = LAYERS * HIDDEN * (2 * HEADS + 2 * KV_HEADS) * WIDTH
FEED_FORWARD = LAYERS * 3 * HIDDEN * FFN
ALL = ATTENTION + FEED_FORWARD
# A group of 32 columns of 4 rows x 8 tokens, in cycles: float32 scales, and the integer part.
SCALES, TILE_MACS = 68, 4 * 8 * 32

# name: cores, clock in GHz, cycles of the integer part, tokens of a block, TMAC/s of int8 products as others measured them
NPUS = {"Phoenix (XDNA1), Radeon 780M": (16, 1.6, 4, 256, 3.4), "Strix Halo (XDNA2), Radeon 8060S": (32, 1.8, 2, 512, 19.0)}
# seconds of a token of a prompt, and of decode: docs/performance.md
GPUS = {"Phoenix (XDNA1), Radeon 780M": {"int4": (1 / 231.6, 1 / 4.7), "int8": (1 / 225.7, 1 / 2.5)},
        "Strix Halo (XDNA2), Radeon 8060S": {"int4": (1 / 829.2, 1 / 13.5), "int8": (1 / 808.0, 1 / 7.1)}}


def kernel_rate(machine: str) -> float:
    """Multiply-accumulates a second, with the scales of each group."""
    cores, clock, integers, _, _ = NPUS[machine]
    return cores * clock * 1e9 * TILE_MACS / (integers + SCALES)


def plans(machine: str, weights: str, rate: float) -> dict[str, tuple[float, float]]:
    """Seconds of a token of a prompt and of decode, by plan."""
    block = NPUS[machine][3]
    prefill, decode = GPUS[machine][weights]
    gpu_ffn = FEED_FORWARD / ALL
    npu = ALL / rate
    return {"gpu": (prefill, decode),
            "npu": (npu, npu * block),
            "split": (max(ATTENTION / rate, prefill * gpu_ffn), ATTENTION / rate * block + decode * gpu_ffn),
            "hybrid": (npu, decode)}


def rate_text(seconds: float) -> str:
    return f"{1 / seconds:.0f} tok/s" if seconds < 0.1 else f"{1 / seconds:.1f} tok/s" if seconds < 1 else f"{seconds:.1f} s a token"


def main() -> None:
    print(f"multiply-accumulates a token: {ATTENTION / 1e9:.1f} G in attention, {FEED_FORWARD / 1e9:.1f} G in feed-forward, {ALL / 1e9:.1f} G in all")
    for machine, (cores, clock, integers, block, measured) in NPUS.items():
        rate = kernel_rate(machine)
        print(f"\n**{machine}**: {cores} cores x {clock} GHz x {TILE_MACS} / ({integers} + {SCALES}) cycles = {rate / 1e12:.2f} TMAC/s; "
              f"the bound: {measured} TMAC/s; blocks of {block} tokens\n")
        print("| plan | weights | prompts | decode | prompts at the bound | decode at the bound |\n|---|---|---|---|---|---|")
        for plan in ("gpu", "npu", "split", "hybrid"):
            for weights in ("int4", "int8"):
                times = [*plans(machine, weights, rate)[plan], *plans(machine, weights, measured * 1e12)[plan]]
                print(f"| `{plan}` | {weights} | " + " | ".join(map(rate_text, times)) + " |")


if __name__ == "__main__":
    main()
