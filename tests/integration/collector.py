"""An OpenTelemetry collector for tests. Standard library only."""
from __future__ import annotations

import http.server
import json
import threading


class Collector:
    """Takes OTLP over HTTP and keeps the spans, each with the process whose work it is."""

    def __init__(self, address: str = "127.0.0.1"):
        self.spans: list[dict] = []
        self.bodies: list[str] = []
        self.changed = threading.Condition()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                right = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
                with collector.changed:
                    collector.bodies.append(text)
                    for resource in json.loads(text)["resourceSpans"]:
                        source = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}
                        for scope in resource["scopeSpans"]:
                            collector.spans += [collector.plain(span, source) for span in scope["spans"]]
                    collector.changed.notify_all()
                try:
                    self.send_response(200 if right else 400)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")
                except ConnectionError:
                    pass  # it has ended meanwhile

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def plain(span: dict, source: dict) -> dict:
        values = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
        return {**span, **values, "service": source["service.name"], "process": source["service.instance.id"],
                "begin": int(span["startTimeUnixNano"]), "end": int(span["endTimeUnixNano"])}

    def wait(self, holds, seconds: float = 60) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: holds(self.spans), seconds)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
