#!/usr/bin/env python3
"""Draws what the workers computed, from traces of `tandem trace`, as an SVG.

    tools/trace_figure.py OUTPUT.svg TITLE=TRACE.json[.gz] ... [--milliseconds 40]

One band a trace, one row a worker; a bar is a stage that ran, its colour the micro-batch. Each band
begins with the start of a step from the middle of the trace, so that what it shows is steady.
"""
import argparse
import gzip
import html
import json
import pathlib

COLOURS = ["#3b6fb6", "#d9822b", "#4a9d5b", "#8a5bb0"]
NOT_COMPUTING = ("wait", "publish", "release", "begin", "result", "schedule", "send")
LEFT, WIDTH, ROW, GAP = 70, 900, 22, 58


def load(path: pathlib.Path) -> dict:
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def runs_of(trace: dict) -> dict[str, list[dict]]:
    names = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "process_name"}
    runs: dict[str, list[dict]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X" and names[event["pid"]] != "gateway" and not event["name"].startswith(NOT_COMPUTING):
            runs.setdefault(names[event["pid"]], []).append(event)
    return runs


def band(title: str, trace: dict, microseconds: float, top: int) -> tuple[list[str], int]:
    runs = runs_of(trace)
    steps = sorted({e["args"]["step"] for events in runs.values() for e in events})
    middle = steps[len(steps) // 2]
    begin = min(e["ts"] for events in runs.values() for e in events if e["args"]["step"] == middle)
    scale = WIDTH / microseconds
    summary = trace["otherData"]
    out = [f'<text x="{LEFT}" y="{top - 8}" class="title">{html.escape(title)}: two or more workers at once '
           f'{100 * summary["overlap_share"]:.0f} % of the time</text>']
    for row, worker in enumerate(sorted(runs, reverse=True)):
        y = top + row * (ROW + 4)
        out.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{html.escape(worker)}</text>')
        out.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH}" height="{ROW}" fill="#eef0f3"/>')
        for event in runs[worker]:
            first = max(0.0, event["ts"] - begin)
            last = min(microseconds, event["ts"] - begin + event["dur"])
            if last <= first:
                continue
            colour = COLOURS[event["args"]["micro_batch"] % len(COLOURS)]
            out.append(f'<rect x="{LEFT + first * scale:.1f}" y="{y}" width="{max(0.4, (last - first) * scale):.1f}" '
                       f'height="{ROW}" fill="{colour}"/>')
    return out, top + len(runs) * (ROW + 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("traces", nargs="+", metavar="TITLE=TRACE")
    parser.add_argument("--milliseconds", type=float, default=40)
    arguments = parser.parse_args()
    body: list[str] = []
    y = GAP
    for item in arguments.traces:
        title, _, path = item.rpartition("=")
        lines, bottom = band(title, load(pathlib.Path(path)), 1000 * arguments.milliseconds, y)
        body += lines
        y = bottom + GAP
    for tick in range(5):
        x = LEFT + WIDTH * tick / 4
        body.append(f'<text x="{x:.0f}" y="{y - 36}" text-anchor="middle">{arguments.milliseconds * tick / 4:g} ms</text>')
    for i in range(2):
        body.append(f'<rect x="{LEFT + 150 * i}" y="14" width="12" height="12" fill="{COLOURS[i]}"/>'
                    f'<text x="{LEFT + 18 + 150 * i}" y="24">micro-batch {i}</text>')
    arguments.output.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 45}" height="{y - 24}" font-family="sans-serif" font-size="12">\n'
        "<style>.title{font-weight:bold}</style>\n"
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")


if __name__ == "__main__":
    main()
