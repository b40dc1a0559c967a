"""promtool likes configuration and rules, its unit tests of the alerts pass, dashboards are what their program writes, and documents name
every alert."""
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"


class PrometheusFiles(unittest.TestCase):
    def run_program(self, *command: object) -> None:
        result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=100)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_configuration_and_rules(self) -> None:
        self.run_program("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
        self.run_program("promtool", "check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yml")))

    def test_alerts(self) -> None:
        self.run_program("promtool", "test", "rules", *sorted((PROMETHEUS / "tests").glob("*.yml")))

    def test_every_alert_is_tested_and_documented(self) -> None:
        alerts = re.findall(r"- alert: (\w+)", (PROMETHEUS / "rules/alerts.yml").read_text())
        self.assertGreater(len(alerts), 10)
        tests = (PROMETHEUS / "tests/alerts_test.yml").read_text()
        text = (ROOT / "docs/operations.md").read_text()
        for alert in alerts:
            self.assertIn(alert, tests)
            self.assertIn(alert, text)

    def test_dashboards(self) -> None:
        self.run_program(sys.executable, ROOT / "tools/make_dashboards.py", "--check")


if __name__ == "__main__":
    if not shutil.which("promtool"):
        print("skipped: promtool is not installed (tools/install_deps.sh does it)")
        sys.exit(77)
    unittest.main(verbosity=2)
