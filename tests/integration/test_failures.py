"""Kill -9 of any process during a stream: no hang, the client gets an error or the rest of the text, and the next request works."""
import os
import select
import signal
import unittest

from cluster import GOLDEN, GPU, Cluster, greedy

TINY = GOLDEN / "tiny"
PROMPT = "The creature opened the window and looked at the"
LENGTH = 400


def text_of(event: dict) -> str:
    return "".join(choice.get("text", "") for choice in event.get("choices", []))


class KillTest(unittest.TestCase):
    def kill_during_stream(self, victim: str, **flags) -> None:
        with Cluster(TINY, **flags) as c:
            body = {"prompt": PROMPT, "ignore_eos": True, **greedy(LENGTH)}
            whole = c.complete(**body)["choices"][0]["text"]
            c.read_state()
            pid, text, error = c.pids[victim], "", None
            for number, event in enumerate(c.stream("/v1/completions", body)):
                if number == 3:
                    os.kill(pid, signal.SIGKILL)
                error = error or event.get("error")
                text += text_of(event)
            if error is None:
                self.assertEqual(text, whole, "the rest of the text came, unchanged")
            else:
                self.assertTrue(whole.startswith(text), "what came before the error is right")
            c.wait_ready()
            self.assertEqual(c.complete(**body)["choices"][0]["text"], whole)
            self.assertGreaterEqual(c.read_state()["processes"][[p for p in c.pids].index(victim)]["restarts"], 1)

    def test_npu_worker_of_split(self):
        self.kill_during_stream("npu0", npu="cpu", gpu=GPU, plan="split")

    def test_gpu_worker_of_split(self):
        self.kill_during_stream("gpu0", npu="cpu", gpu=GPU, plan="split")

    def test_only_worker(self):
        self.kill_during_stream("npu0", npu="cpu", gpu="none")

    def test_gateway(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            body = {"prompt": PROMPT, "ignore_eos": True, **greedy(LENGTH)}
            whole = c.complete(**body)["choices"][0]["text"]
            text = ""
            try:
                for number, event in enumerate(c.stream("/v1/completions", body)):
                    if number == 3:
                        os.kill(c.pids["gateway"], signal.SIGKILL)
                    text += text_of(event)
            except OSError:
                pass  # the connection breaks: that is the error
            self.assertTrue(whole.startswith(text))
            c.wait_ready()
            self.assertEqual(c.complete(**body)["choices"][0]["text"], whole)

    def test_loader_is_not_needed_to_serve(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            before = c.complete(PROMPT, **greedy(8))["choices"][0]["text"]
            descriptor = os.pidfd_open(c.pids["loader"])
            os.kill(c.pids["loader"], signal.SIGKILL)
            self.assertTrue(select.select([descriptor], [], [], 30)[0])
            os.close(descriptor)
            self.assertEqual(c.complete(PROMPT, **greedy(8))["choices"][0]["text"], before)


class BadInputTest(unittest.TestCase):
    def test_nothing_crashes_and_the_process_serves_on(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            model = c.model
            good = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **greedy(4)}
            cases = [
                ({**good, "model": "other"}, 404, "model"),
                ({**good, "temperature": 3}, 400, "temperature"),
                ({**good, "temperature": "hot"}, 400, "temperature"),
                ({**good, "max_tokens": -1}, 400, "max_tokens"),
                ({**good, "messages": []}, 400, "messages"),
                ({**good, "messages": [{"role": "assistant", "content": "x"}]}, 400, None),
                ({**good, "messages": [{"role": "user", "content": "word " * 9000}]}, 400, None),
                ({**good, "stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
                ({**good, "top_logprobs": 21, "logprobs": True}, 400, "top_logprobs"),
                (b"{\"model\": ", 400, None),
                (b"{\"model\": \"\xff\xfe\"}", 400, None),
                (b"[" * 100000, 400, None),
            ]
            for body, expected, parameter in cases:
                status, answer, _ = c.request("POST", "/v1/chat/completions", body)
                self.assertEqual(status, expected, (str(body)[:100], answer))
                self.assertIn("message", answer["error"])
                self.assertIn("type", answer["error"])
                if parameter is not None:
                    self.assertEqual(answer["error"]["param"], parameter, answer)
            self.assertEqual(c.request("GET", "/nothing")[0], 404)
            self.assertEqual(c.request("DELETE", "/v1/models")[0], 405)
            self.assertEqual(c.request("POST", "/v1/chat/completions", b"x" * (64 << 20))[0], 413)
            self.assertEqual(c.request("POST", "/v1/chat/completions", good)[0], 200)
            self.assertEqual(c.read_state()["processes"][-1]["restarts"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
