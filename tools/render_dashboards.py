#!/usr/bin/env python3
"""Draws Grafana's dashboards as SVG from their own JSON and a Prometheus that has data, for documents and where Grafana is not.

    tools/render_dashboards.py --prometheus http://127.0.0.1:9090 --out docs/figures [--minutes 5] [dashboard.json ...]
"""
import argparse
import html
import json
import math
import pathlib
import re
import time
import urllib.parse
import urllib.request

DASHBOARDS = pathlib.Path(__file__).resolve().parents[1] / "deploy/grafana/dashboards"
COLOURS = ["#3b6fb6", "#d9822b", "#4a9d5b", "#8a5bb0", "#b5473c", "#3b9fa6", "#a68a2b", "#6b6f76", "#c2609d", "#5b7a2b"]
COLUMN, ROW, PAD, TOP = 46, 30, 8, 54
POINTS = 90


class Prometheus:
    def __init__(self, base: str):
        self.base = base.rstrip("/")

    def ask(self, path: str, **parameters) -> list:
        url = f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def range(self, query: str, begin: float, end: float) -> list[dict]:
        return self.ask("query_range", query=query, start=begin, end=end, step=max(1, (end - begin) / POINTS))

    def now(self, query: str) -> list[dict]:
        return self.ask("query", query=query)


def legend(pattern: str, labels: dict) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m.group(1), ""), pattern)


def number(value: float, unit: str) -> str:
    if unit == "bool_yes_no":
        return "Yes" if value else "No"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s" and abs(value) < 1:
        return f"{1000 * value:.3g} ms"
    if unit == "bytes":
        power = min(4, int(math.log(max(abs(value), 1), 1024)))
        return f"{value / 1024 ** power:.3g} {['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}"
    suffix = {"s": " s", "reqps": " req/s", "ops": " /s"}.get(unit, "")
    return f"{value:.3g}{suffix}" if abs(value) < 1000 else f"{value:,.0f}{suffix}"


def text(x: float, y: float, what: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{html.escape(what)}</text>'


def draw_stat(panel: dict, values: list[tuple[str, float]], x: float, y: float, width: float, height: float) -> list[str]:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    out = []
    step = width / max(1, len(values))
    for i, (name, value) in enumerate(values):
        middle = x + step * (i + 0.5)
        out.append(text(middle, y + height / 2 + 16, number(value, unit), "big", "middle"))
        if len(values) > 1:
            out.append(text(middle, y + height - 10, name, "small", "middle"))
    return out


def draw_series(panel: dict, series: list[tuple[str, list]], span: tuple[float, float], x: float, y: float, width: float,
                height: float) -> list[str]:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    series = series[:len(COLOURS)]
    top = max((v for _, points in series for _, v in points), default=0) or 1
    left, right, low, high = x + 76, x + width - 12, y + height - 18 - 14 * ((len(series) + 1) // 2), y + 30
    out = []
    for share in (0, 0.5, 1):
        line = low - (low - high) * share
        out.append(f'<path d="M{left:.0f} {line:.1f}H{right:.0f}" stroke="#dde1e6"/>')
        out.append(text(left - 6, line + 4, number(top * share, unit), "small", "end"))
    for i, (name, points) in enumerate(series):
        place = [(left + (right - left) * (t - span[0]) / (span[1] - span[0]), low - (low - high) * v / top) for t, v in points]
        path = "".join(f'{"M" if j == 0 else "L"}{a:.1f} {b:.1f}' for j, (a, b) in enumerate(place))
        out.append(f'<path d="{path}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.5"/>')
        key_x, key_y = left + (right - left) / 2 * (i % 2), low + 16 + 14 * (i // 2)
        out.append(f'<rect x="{key_x:.0f}" y="{key_y - 8:.0f}" width="9" height="9" fill="{COLOURS[i]}"/>')
        out.append(text(key_x + 14, key_y, name[:int((right - left) / 13)], "small"))
    return out


def draw_panel(panel: dict, prometheus: Prometheus, span: tuple[float, float]) -> list[str]:
    place = panel["gridPos"]
    x, y = PAD + place["x"] * COLUMN, TOP + place["y"] * ROW
    width, height = place["w"] * COLUMN - PAD, place["h"] * ROW - PAD
    out = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#ffffff" stroke="#d0d5db"/>',
           text(x + 10, y + 19, panel["title"], "title")]
    found = []
    for target in panel["targets"]:
        asked = prometheus.now(target["expr"]) if panel["type"] == "stat" else prometheus.range(target["expr"], *span)
        for result in asked:
            name = legend(target["legendFormat"], result["metric"])
            points = [(float(t), float(v)) for t, v in result.get("values", [result.get("value")])]
            points = [p for p in points if math.isfinite(p[1])]
            if points:
                found.append((name, points))
    if not found:
        return out + [text(x + width / 2, y + height / 2, "no data", "small", "middle")]
    if panel["type"] == "stat":
        return out + draw_stat(panel, [(name, points[-1][1]) for name, points in found], x, y, width, height)
    return out + draw_series(panel, found, span, x, y, width, height)


def draw(board: dict, prometheus: Prometheus, minutes: float) -> str:
    end = time.time()
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
    width, height = 24 * COLUMN + PAD, TOP + rows * ROW + PAD
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
           "<style>text{font:12px sans-serif;fill:#2a2f36}.title{font-weight:bold}.small{font-size:11px;fill:#565d66}"
           ".big{font-size:26px}.head{font-size:18px;font-weight:bold}</style>",
           f'<rect width="{width}" height="{height}" fill="#f4f5f7"/>', text(PAD + 2, 24, board["title"], "head"),
           text(PAD + 2, 42, f'{board["description"]} The last {minutes:g} minutes.', "small")]
    for panel in board["panels"]:
        out += draw_panel(panel, prometheus, (end - 60 * minutes, end))
    return "\n".join(out) + "\n</svg>\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dashboards", nargs="*", type=pathlib.Path)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    prometheus = Prometheus(options.prometheus)
    for file in options.dashboards or sorted(DASHBOARDS.glob("*.json")):
        svg = draw(json.loads(file.read_text(encoding="utf-8")), prometheus, options.minutes)
        (options.out / f"dashboard-{file.stem}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
