#!/usr/bin/env python3
"""Draws measured matrix products under the limits of the device, as an SVG.

    tools/roofline.py docs/figures/roofline-h200.json docs/figures/roofline-h200.svg

Across: operations for each byte of weights; up: operations a second; both logarithmic. The input holds the limits and, for each product, its size, the
bytes of a weight and the microseconds of so many tokens.
"""
import html
import json
import math
import pathlib
import sys

LEFT, TOP, WIDTH, HEIGHT = 70, 40, 620, 380
COLOURS = ["#3b6fb6", "#d9822b", "#4a9d5b", "#8a5bb0"]
X_DECADES, Y_DECADES = (0, 4), (12, 15)  # 1 to 10,000 operations a byte, 1 to 1,000 TFLOP/s


def x_of(intensity):
    return LEFT + WIDTH * (math.log10(intensity) - X_DECADES[0]) / (X_DECADES[1] - X_DECADES[0])


def y_of(rate):
    return TOP + HEIGHT * (1 - (math.log10(rate) - Y_DECADES[0]) / (Y_DECADES[1] - Y_DECADES[0]))


def axes():
    out = []
    for decade in range(X_DECADES[0], X_DECADES[1] + 1):
        x = x_of(10**decade)
        out.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{TOP + HEIGHT}" class="grid"/>'
                   f'<text x="{x:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{10**decade:,}</text>')
    for decade in range(Y_DECADES[0], Y_DECADES[1] + 1):
        y = y_of(10**decade)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}" class="grid"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**(decade - 12):,}</text>')
    out.append(f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">operations for each byte of weights</text>')
    out.append(f'<text x="18" y="{TOP + HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 18 {TOP + HEIGHT / 2})">TFLOP/s</text>')
    return out


def limits(data):
    peak, bandwidth = data["flops_per_second"], data["bytes_per_second"]
    first, ridge = 10**12 / bandwidth, peak / bandwidth
    start = max(first, 1)
    points = [(start, bandwidth * start), (ridge, peak), (10**X_DECADES[1], peak)]
    path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
    return [f'<polyline points="{path}" class="limit"/>',
            f'<text x="{x_of(start * 1.2):.1f}" y="{y_of(bandwidth * start * 2):.1f}">{bandwidth / 1e12:.2f} TB/s</text>',
            f'<text x="{x_of(10**X_DECADES[1]) - 4:.1f}" y="{y_of(peak) - 6:.1f}" text-anchor="end">{peak / 1e12:.0f} TFLOP/s</text>']


def series(data):
    out = []
    for number, product in enumerate(data["series"]):
        colour = COLOURS[number % len(COLOURS)]
        points = []
        for tokens, microseconds in product["microseconds"].items():
            flops = 2.0 * product["rows"] * product["columns"] * int(tokens)
            intensity = 2.0 * int(tokens) / product["bytes_per_weight"]
            points.append((x_of(intensity), y_of(flops / microseconds * 1e6), tokens))
        out.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)}" fill="none" stroke="{colour}"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{tokens} tokens</title></circle>' for x, y, tokens in points]
        if number == 0:
            out += [f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle">{tokens}</text>' for x, y, tokens in points]
        y = TOP + HEIGHT - 20 - 18 * (len(data["series"]) - 1 - number)
        out.append(f'<circle cx="{LEFT + WIDTH - 150}" cy="{y - 4}" r="4" fill="{colour}"/>'
                   f'<text x="{LEFT + WIDTH - 140}" y="{y}">{html.escape(product["name"])}</text>')
    return out


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data = json.loads(pathlib.Path(sys.argv[1]).read_text())
    body = axes() + limits(data) + series(data)
    style = ("text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.limit{fill:none;stroke:#333;stroke-width:1.5}")
    pathlib.Path(sys.argv[2]).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {TOP + HEIGHT + 50}" role="img">'
        f'<title>{html.escape(data["title"])}</title><style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{LEFT}" y="22" style="font-weight:bold">{html.escape(data["title"])}; figures at the points: tokens</text>'
        + "\n".join(body) + "</svg>\n")


if __name__ == "__main__":
    main()
