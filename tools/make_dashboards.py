#!/usr/bin/env python3
"""Writes deploy/grafana/dashboards/*.json: what the three dashboards show stands here once, without Grafana's repetition.

tools/make_dashboards.py            writes the files
tools/make_dashboards.py --check    ends with 1 when they are not what this program would write
"""
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "deploy/grafana/dashboards"
SOURCE = {"type": "prometheus", "uid": "tandem-prometheus"}
WIDTH = 24


def quantile(q: float, metric: str) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket[1m])))"


def quantiles(metric: str) -> list[tuple[str, str]]:
    return [(quantile(q, metric), name) for q, name in ((0.5, "half within"), (0.95, "95 % within"), (0.99, "99 % within"))]


# A panel: (title, what it tells, unit, kind, [(query, legend)]).
OVERVIEW = [
    ("Ready", "1 while requests are computed.", "bool_yes_no", "stat", [("min(tandem_cluster_ready)", "ready")]),
    ("Processes that answer", "Gateway, loader and workers.", "short", "stat", [('sum(up{job="tandem"})', "up")]),
    ("Tokens per second", "Generated, over the last minute.", "short", "stat", [("cluster:tandem_decode_tokens:rate1m", "generated")]),
    ("Requests that wait", "In the queue now.", "short", "stat", [("sum(tandem_requests_waiting)", "waiting")]),
    ("First token", "From a request's arrival to its first token.", "s", "timeseries",
     quantiles("gen_ai_server_time_to_first_token_seconds")),
    ("Time per output token", "After the first.", "s", "timeseries", quantiles("gen_ai_server_time_per_output_token_seconds")),
    ("Whole answers", "From a request's arrival to the end of its answer.", "s", "timeseries",
     quantiles("gen_ai_server_request_duration_seconds")),
    ("Requests", "Those that hold a slot and those in the queue.", "short", "timeseries",
     [("sum(tandem_requests_running)", "running"), ("sum(tandem_requests_waiting)", "waiting")]),
    ("Answers by status", "Of the model's endpoints.", "reqps", "timeseries",
     [("sum by (status) (rate(tandem_requests_total[1m]))", "{{status}}")]),
    ("Refusals by reason", "queue_full is the one that more machines mend.", "reqps", "timeseries",
     [("sum by (reason) (rate(tandem_rejections_total[1m]))", "{{reason}}")]),
    ("Tokens", "Generated, and of prompts.", "short", "timeseries",
     [("cluster:tandem_decode_tokens:rate1m", "generated"), ("cluster:tandem_prefill_tokens:rate1m", "of prompts")]),
    ("Restarts and replays", "Workers that were replaced and requests that had to start over.", "short", "timeseries",
     [("sum by (worker) (increase(tandem_worker_restarts_total[5m]))", "restarts of {{worker}}"),
      ("sum(increase(tandem_replayed_requests_total[5m]))", "replays"), ("sum(increase(tandem_recoveries_total[5m]))", "recoveries")]),
    ("Error budget", "Share of failed requests, and of late first tokens, over an hour.", "percentunit", "timeseries",
     [("cluster:tandem_request_errors:ratio_rate1h", "failed"), ("cluster:gen_ai_slow_first_token:ratio_rate1h", "first token after 2.5 s")]),
    ("Up", "1 while a process answers.", "bool_yes_no", "timeseries", [('max by (process) (up{job="tandem"})', "{{process}}")]),
]
DEVICES = [
    ("Devices", "Healthy: the last probe gave the right result.", "bool_yes_no", "stat",
     [("tandem_device_healthy", "{{worker}}")]),
    ("Losses", "Of each device, since the cluster's folder was made.", "short", "stat", [("tandem_device_losses_total", "{{worker}}")]),
    ("Busy", "Share of time in which a device ran stages.", "percentunit", "timeseries",
     [("worker:tandem_device_busy:ratio_rate1m", "{{worker}}")]),
    ("Step time", "From sending a step to its last answer.", "s", "timeseries", quantiles("tandem_step_seconds")),
    ("What a run of a stage costs", "The ten that take most, on the device.", "s", "timeseries",
     [("topk(10, rate(tandem_stage_run_seconds_total[1m]) / (rate(tandem_stage_runs_total[1m]) > 0))", "{{worker}}: {{stage}}")]),
    ("Where the time goes", "Stages, as a share of all time; the ten largest.", "percentunit", "timeseries",
     [("topk(10, rate(tandem_stage_run_seconds_total[1m]))", "{{worker}}: {{stage}}")]),
    ("Waiting at edges", "Share of time in which an end waited for the other one: for rows (data) or room (space).", "percentunit",
     "timeseries", [("worker:tandem_edge_wait:ratio_rate1m", "{{worker}}: {{edge}} {{for}} ({{kind}})")]),
    ("Hand-overs", "Through each edge.", "ops", "timeseries",
     [("sum by (edge, kind) (rate(tandem_edge_handovers_total[1m]))", "{{edge}} ({{kind}})")]),
    ("Memory of devices", "As the driver says, and what weights and KV cache take of it.", "bytes", "timeseries",
     [("tandem_device_memory_bytes", "{{worker}}: all"), ("sum by (worker, import) (tandem_weights_imported_bytes)", "{{worker}}: weights, {{import}}"),
      ("tandem_kv_cache_bytes", "{{worker}}: KV cache")]),
    ("Work given to devices", "Submissions; allocations and recordings are 0 in a steady state.", "ops", "timeseries",
     [("rate(tandem_device_submissions_total[1m])", "{{worker}}: submissions"),
      ("rate(tandem_device_allocations_total[1m])", "{{worker}}: allocations"),
      ("rate(tandem_device_command_recordings_total[1m])", "{{worker}}: recordings")]),
]
CAPACITY = [
    ("Slots in use", "Running requests, of those that can run.", "percentunit", "stat",
     [("sum(tandem_requests_running) / sum(tandem_requests_running_limit)", "running")]),
    ("Queue in use", "Waiting requests, of those that may wait.", "percentunit", "stat", [("cluster:tandem_queue_use:ratio", "waiting")]),
    ("KV cache in use", "Kept for running requests, by group.", "percentunit", "stat", [("group:tandem_kv_use:ratio", "{{group}}")]),
    ("Load", "Packed weights, of all.", "percentunit", "stat", [("tandem_load_done_bytes / tandem_load_expected_bytes", "loaded")]),
    ("KV cache", "Blocks kept for running requests, and those of them that hold keys and values.", "short", "timeseries",
     [("tandem_kv_blocks", "{{group}}: all"), ("tandem_kv_blocks_reserved", "{{group}}: kept"), ("tandem_kv_blocks_taken", "{{group}}: filled")]),
    ("Batch size", "Requests in a step.", "short", "timeseries", quantiles("tandem_step_sequences")),
    ("Tokens of a step", "Decodes and prompts together.", "short", "timeseries", quantiles("tandem_step_tokens")),
    ("Steps", "Each second.", "ops", "timeseries", [("sum(rate(tandem_steps_total[1m]))", "steps")]),
    ("Tokens of requests", "Prompt and completion of an average answer.", "short", "timeseries",
     [("sum(rate(tandem_prompt_tokens_total[5m])) / sum(rate(gen_ai_server_request_duration_seconds_count[5m]))", "prompt"),
      ("sum(rate(tandem_completion_tokens_total[5m])) / sum(rate(gen_ai_server_request_duration_seconds_count[5m]))", "completion")]),
    ("Processor time", "Of each process; 1 is one core.", "short", "timeseries", [("rate(process_cpu_seconds_total[1m])", "{{process}}")]),
    ("Memory of processes", "In RAM. Shared weights count in each that maps them.", "bytes", "timeseries",
     [("process_resident_memory_bytes", "{{process}}")]),
    ("Descriptors", "Open, of those that may be.", "percentunit", "timeseries", [("process_open_fds / process_max_fds", "{{process}}")]),
]
DASHBOARDS = {
    "overview": ("Tandem: overview", "Is it healthy, how fast is it, who waits?", OVERVIEW),
    "devices": ("Tandem: devices", "What does each stage cost, and what does each device wait for?", DEVICES),
    "capacity": ("Tandem: capacity", "How much room is left?", CAPACITY),
}


def panel(number: int, place: dict, title: str, tells: str, unit: str, kind: str, queries: list) -> dict:
    options = {"stat": {"colorMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "auto"},
               "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}}
    return {"id": number, "title": title, "description": tells, "type": kind, "gridPos": place, "datasource": SOURCE,
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []}, "options": options[kind],
            "targets": [{"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend, "datasource": SOURCE}
                        for i, (query, legend) in enumerate(queries)]}


def dashboard(uid: str, title: str, tells: str, panels: list) -> dict:
    placed = []
    x = y = row = 0
    stats = sum(1 for p in panels if p[3] == "stat")
    for number, (name, about, unit, kind, queries) in enumerate(panels, 1):
        width, height = (WIDTH // stats, 4) if kind == "stat" else (WIDTH // 2, 8)
        if x + width > WIDTH or (row and height != row):
            x, y = 0, y + row
        row = height
        placed.append(panel(number, {"x": x, "y": y, "w": width, "h": height}, name, about, unit, kind, queries))
        x += width
    return {"uid": f"tandem-{uid}", "title": title, "description": tells, "tags": ["tandem"], "editable": False, "schemaVersion": 38,
            "refresh": "10s", "time": {"from": "now-30m", "to": "now"}, "templating": {"list": []}, "annotations": {"list": []},
            "links": [{"type": "dashboards", "tags": ["tandem"], "title": "Tandem", "asDropdown": False}], "panels": placed}


def main() -> int:
    old = []
    for uid, (title, tells, panels) in DASHBOARDS.items():
        file = FOLDER / f"{uid}.json"
        text = json.dumps(dashboard(uid, title, tells, panels), indent=1, ensure_ascii=False) + "\n"
        if sys.argv[1:] == ["--check"]:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                old.append(file.name)
        else:
            file.write_text(text, encoding="utf-8")
    if old:
        print(f"make_dashboards: {', '.join(old)}: not what this program writes; run it", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
