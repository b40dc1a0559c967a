"""The gateway's page in real, headless Chromium: chat, stop, regenerate, keyboard, status, dark mode; nothing loaded from elsewhere.

TANDEM_FIGURES=FOLDER puts pictures of it there. Run by ./check --page (packages: chromium, chromium-driver, python3-selenium).
"""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from cluster import GPU, ROOT, Cluster  # noqa: E402

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:
    webdriver = None

MODEL = ROOT / "models/demo/tandem-demo-Q8_0.gguf"
PATIENCE_SECONDS = 60


class Browser:
    def __init__(self, address: str):
        self.address = address
        self.folder = tempfile.mkdtemp(prefix="tandem-chromium-", dir="/tmp")
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking",
                         "--window-size=1100,900", f"--user-data-dir={self.folder}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        self.wait = WebDriverWait(self.driver, PATIENCE_SECONDS)

    def close(self) -> None:
        self.driver.quit()
        shutil.rmtree(self.folder, ignore_errors=True)

    def open(self) -> None:
        self.driver.get(f"http://{self.address}/")

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, holds):
        return self.wait.until(lambda _: holds())

    def type(self, text: str) -> None:
        """To whatever has the focus: a person's keyboard does no more."""
        self.driver.switch_to.active_element.send_keys(text)

    def requested(self) -> set[str]:
        """Every address that the page has asked; Chromium's own pages ask, too."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {e["params"]["request"]["url"] for e in events
                if e["method"] == "Network.requestWillBeSent" and e["params"]["documentURL"].startswith(f"http://{self.address}/")}

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def emulate(self, scheme: str) -> None:
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def picture(self, name: str) -> None:
        if folder := os.environ.get("TANDEM_FIGURES"):
            self.driver.save_screenshot(str(pathlib.Path(folder) / name))


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(MODEL, npu="cpu", gpu=GPU, plan="split")
        cls.cluster.__enter__()
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)

    def setUp(self) -> None:
        self.browser = Browser(self.cluster.http)
        self.addCleanup(self.browser.close)
        self.browser.open()
        self.browser.until(lambda: self.browser.find("#line").text == self.cluster.model)

    def ask(self, text: str) -> None:
        self.browser.type(text)
        self.browser.type(Keys.ENTER)

    def answer(self, number: int = 0) -> str:
        """Waits for the end of an answer, which is when its note has come."""
        b = self.browser
        b.until(lambda: len(b.all(".assistant")) > number and b.find("#stop").get_attribute("disabled"))
        return b.all(".assistant")[number].text

    def set(self, name: str, value: str) -> None:
        field = self.browser.find(f"#{name}")
        field.clear()
        field.send_keys(value)

    def test_chat_by_keyboard(self) -> None:
        b = self.browser
        b.find("#settings summary").click()
        self.set("temperature", "0")
        b.find("#text").click()
        self.ask("What is 12 + 30?")
        self.assertIn("42", self.answer())
        self.assertRegex(b.all(".note")[1].text, r"^\d+ tokens, first after .* a second$")
        # Shift+Enter begins a line, and the talk goes on from what was said.
        b.find("#text").click()
        b.type("Say it")
        b.type(Keys.SHIFT + Keys.ENTER)
        self.assertEqual(len(b.all(".user")), 1)
        b.driver.switch_to.active_element.send_keys("again.")
        b.type(Keys.ENTER)
        self.answer(1)
        self.assertEqual(b.all(".user")[1].text, "Say it\nagain.")
        b.picture("page-chat.png")
        b.find("#clear").click()
        self.assertEqual(b.all(".turn"), [])
        self.assertEqual(b.complaints(), [])
        self.assertEqual({url for url in b.requested() if not url.startswith(f"http://{self.cluster.http}/")}, set())

    def test_text_is_never_markup(self) -> None:
        b = self.browser
        self.ask("<img src=x onerror=\"document.title='broken'\"><b>bold</b>")
        self.answer()
        self.assertIn("<b>bold</b>", b.find(".user").text)
        self.assertEqual(b.all(".turn *"), [])
        self.assertEqual(b.driver.title, "Tandem")

    def test_stop_and_regenerate(self) -> None:
        b = self.browser
        self.ask("Tell me a long story about a fox.")
        b.until(lambda: b.all(".assistant") and b.all(".assistant")[0].text)
        b.type(Keys.ESCAPE)
        b.until(lambda: b.find("#stop").get_attribute("disabled"))
        notes = [note.text for note in b.all(".note")]
        if notes[1] != "stopped":
            # It was done before the key came: then the note says so, and nothing was lost.
            self.assertIn("tokens", notes[1])
        b.until(lambda: self.cluster.status()["running"] == 0)
        b.find("#settings summary").click()
        self.set("max_tokens", "2")
        b.find("#again").click()
        b.until(lambda: b.all(".note")[-1].text.startswith("2 tokens"))
        self.assertEqual(len(b.all(".assistant")), 1)

    def test_wrong_settings_are_said(self) -> None:
        b = self.browser
        b.find("#settings summary").click()
        self.set("temperature", "7")
        b.find("#text").click()
        self.ask("Hello")
        b.until(lambda: "temperature" in b.all(".note")[-1].text)
        self.assertIn("error", b.all(".note")[-1].get_attribute("class"))

    def test_status_and_dark_mode(self) -> None:
        b = self.browser
        self.cluster.complete("One two", max_tokens=8)
        tab = b.find("#tab-chat")
        tab.click()
        tab.send_keys(Keys.ARROW_RIGHT)
        self.assertEqual(b.driver.switch_to.active_element.get_attribute("id"), "tab-status")
        b.until(lambda: len(b.all("#processes tr")) == 5)
        text = b.find("#status").text
        for part in ("Tokens a second", "Running", "0 of", "Waiting", "Recoveries", "blocks",
                     "npu0", "gpu0", "loader", "gateway", "answers", "split", "attention 0", "host-pointer", "global", "window"):
            self.assertIn(part, text)
        light = b.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        b.picture("page-status.png")
        b.emulate("dark")
        dark = b.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        self.assertNotEqual(light, dark)
        b.picture("page-status-dark.png")
        self.assertEqual(b.complaints(), [])

    def test_scripts_of_others_are_refused(self) -> None:
        b = self.browser
        b.driver.execute_script("const s = document.createElement('script'); s.textContent = \"document.title='broken'\";"
                                "document.body.append(s); fetch('http://127.0.0.1:9/').catch(() => {});")
        self.assertEqual(b.driver.title, "Tandem")
        self.assertTrue(any("Content Security Policy" in line for line in b.complaints()))


class PageWithKeysTest(unittest.TestCase):
    def test_asks_for_the_key(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".key") as keys:
            keys.write("secret-key\n")
            keys.flush()
            with Cluster(MODEL, npu="cpu", gpu="none", plan="npu", api_key_file=keys.name) as cluster:
                browser = Browser(cluster.http)
                self.addCleanup(browser.close)
                browser.open()
                browser.until(lambda: browser.find("#key-form").is_displayed())
                browser.find("#key").send_keys("secret-key" + Keys.ENTER)
                browser.until(lambda: "tandem" in browser.find("#line").text)
                self.assertFalse(browser.find("#key-form").is_displayed())


if __name__ == "__main__":
    if webdriver is None or not shutil.which("chromedriver"):
        print("page: chromium, chromium-driver and python3-selenium are needed", file=sys.stderr)
        sys.exit(1)
    unittest.main(verbosity=2)
