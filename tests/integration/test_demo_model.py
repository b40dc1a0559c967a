"""The demo model answers questions with one right answer under every plan and weight format."""
import subprocess
import sys
import unittest

from cluster import GPU, ROOT, Cluster

sys.path.insert(0, str(ROOT / "bench/quality"))
import sets  # noqa: E402

MODEL = next((ROOT / "models/demo").glob("*.gguf"))
PLANS = {
    "npu": {"npu": "cpu", "gpu": "none"},
    "gpu": {"gpu": GPU},
    "split": {"npu": "cpu", "gpu": GPU},
    "layers": {"gpu": f"{GPU},{GPU}"},
}
QUESTIONS = [
    ("What is 12 + 30?", r"\b42\b"),
    ("What is 100 - 58?", r"\b42\b"),
    ("What is the capital of France?", r"\bParis\b"),
    ("Which day comes after Monday?", r"\bTuesday\b"),
]


class DemoModelTest(unittest.TestCase):
    def ask(self, plan: str, quant: str, **more) -> None:
        with Cluster(MODEL, plan=plan, quant=quant, **PLANS[plan], **more) as cluster:
            self.assertEqual(cluster.status()["weight_format"], quant)
            for question, expected in QUESTIONS:
                answer = cluster.chat(question, temperature=0, max_tokens=40)["choices"][0]
                self.assertRegex(answer["message"]["content"], expected, question)
                self.assertEqual(answer["finish_reason"], "stop")
            name = cluster.chat("My name is Anna.", "Nice to meet you, Anna.", "What is my name?", temperature=0, max_tokens=40)
            self.assertRegex(name["choices"][0]["message"]["content"], r"\bAnna\b")

    def test_streams_the_same_text(self):
        with Cluster(MODEL, npu="cpu", gpu="none") as cluster:
            question = {"messages": [{"role": "user", "content": QUESTIONS[0][0]}], "temperature": 0, "max_tokens": 40}
            parts = [event["choices"][0]["delta"].get("content") or "" for event in cluster.stream("/v1/chat/completions", question)]
            self.assertRegex("".join(parts), QUESTIONS[0][1])
            whole = cluster.chat(QUESTIONS[0][0], temperature=0, max_tokens=40)
            self.assertEqual("".join(parts), whole["choices"][0]["message"]["content"])

    def run_quality(self, script: str, *arguments: str, **more: str) -> None:
        with Cluster(MODEL, npu="cpu", gpu="none", quant="int8", **more) as cluster:
            result = subprocess.run([sys.executable, str(ROOT / "bench/quality" / script), "--endpoint", f"http://{cluster.http}/v1", *arguments],
                                    capture_output=True, text=True, timeout=300)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            print(result.stdout)

    def test_log_probabilities_are_those_of_transformers(self):
        self.run_quality("reference.py", activations="float32")

    def test_scores_on_held_out_prompts(self):
        questions = [n for n in sets.NAMES if n != "schema" and not n.startswith("tools")]
        self.run_quality("run.py", "--limit", "30", "--at-least", "97", "--sets", *questions)

    def test_other_activations_than_the_default(self):
        for activations in ("int8", "float32"):
            for quant in ("int8", "int4"):
                with self.subTest(activations=activations, quant=quant):
                    self.ask("npu", quant, activations=activations)


def add_tests() -> None:
    for plan in PLANS:
        for quant in ("bf16", "int8", "int4"):
            setattr(DemoModelTest, f"test_{plan}_{quant}", lambda self, plan=plan, quant=quant: self.ask(plan, quant))


add_tests()

if __name__ == "__main__":
    unittest.main(verbosity=2)
