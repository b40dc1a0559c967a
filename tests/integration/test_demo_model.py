"""The demo model answers questions with one right answer under every plan and weight format, calls tools and fills a schema."""
import json
import subprocess
import sys
import unittest

from cluster import GPU, ROOT, Cluster

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


def function(name: str, description: str, **properties: str) -> dict:
    schema = {"type": "object", "properties": {n: {"type": t} for n, t in properties.items()}, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [function("get_weather", "Weather of a city", city="string"), function("add", "Adds two numbers", a="integer", b="integer")]


class DemoModelTest(unittest.TestCase):
    def ask(self, plan: str, quant: str, **more) -> None:
        with Cluster(MODEL, plan=plan, quant=quant, **PLANS[plan], **more) as cluster:
            status = cluster.status()
            self.assertEqual(status["weight_format"], quant)
            if more.get("gpu_chaining") == "on":
                facts = [fact for worker in status["workers"] for fact in worker.get("device_facts", [])]
                self.assertIn({"name": "chained dispatches", "value": "on"}, facts)
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

    def ask_tools(self, cluster: Cluster, *messages: dict) -> dict:
        body = {"messages": list(messages), "tools": TOOLS, "temperature": 0, "max_tokens": 100}
        status, answer, _ = cluster.request("POST", "/v1/chat/completions", body)
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]

    def test_calls_tools_and_answers_from_their_results(self):
        questions = {
            "What is the weather in Paris?": [("get_weather", {"city": "Paris"}, '{"celsius": 22}')],
            "What is 12 + 30?": [("add", {"a": 12, "b": 30}, "42")],
            "What is the weather in Rome and in Oslo?": [("get_weather", {"city": "Rome"}, '{"celsius": 25}'), ("get_weather", {"city": "Oslo"}, '{"celsius": 7}')],
        }
        answers = [r"22.*Paris", r"\b42\b", r"25.*Rome.*\b7\b.*Oslo"]
        with Cluster(MODEL, npu="cpu", gpu="none") as c:
            for (question, wanted), expected in zip(questions.items(), answers):
                user = {"role": "user", "content": question}
                choice = self.ask_tools(c, user)
                self.assertEqual(choice["finish_reason"], "tool_calls", choice)
                calls = choice["message"]["tool_calls"]
                made = [(x["function"]["name"], json.loads(x["function"]["arguments"])) for x in calls]
                self.assertEqual(made, [(name, arguments) for name, arguments, _ in wanted])
                results = [{"role": "tool", "tool_call_id": x["id"], "content": w[2]} for x, w in zip(calls, wanted)]
                answer = self.ask_tools(c, user, choice["message"], *results)
                self.assertEqual(answer["finish_reason"], "stop", answer)
                self.assertRegex(answer["message"]["content"], expected)
            # No tool fits.
            choice = self.ask_tools(c, {"role": "user", "content": "What is the capital of France?"})
            self.assertRegex(choice["message"]["content"], r"\bParis\b")
            self.assertFalse(choice["message"].get("tool_calls"))

    def test_fills_a_schema(self):
        properties = {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}, "married": {"type": "boolean"}}
        schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
        text = "Anna is 31 years old and lives in Paris. She is not married."
        with Cluster(MODEL, npu="cpu", gpu="none") as c:
            answer = c.chat(f"{text} Give me a JSON object with the keys name, age, city and married.", temperature=0, max_tokens=100,
                            response_format={"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}})
        filled = json.loads(answer["choices"][0]["message"]["content"])
        self.assertEqual(filled, {"name": "Anna", "age": 31, "city": "Paris", "married": False})

    def run_quality(self, script: str, *arguments: str, **more: str) -> None:
        with Cluster(MODEL, npu="cpu", gpu="none", quant="int8", **more) as cluster:
            result = subprocess.run([sys.executable, str(ROOT / "bench/quality" / script), "--endpoint", f"http://{cluster.http}/v1", *arguments],
                                    capture_output=True, text=True, timeout=300)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            print(result.stdout)

    def test_log_probabilities_are_those_of_transformers(self):
        self.run_quality("reference.py", activations="float32")

    def test_scores_on_held_out_prompts(self):
        self.run_quality("run.py", "--limit", "30", "--at-least", "97")

    def test_other_activations_than_the_default(self):
        for activations in ("int8", "float32"):
            for quant in ("int8", "int4"):
                with self.subTest(activations=activations, quant=quant):
                    self.ask("npu", quant, activations=activations)


def add_tests() -> None:
    for plan in PLANS:
        for quant in ("bf16", "int8", "int4"):
            # One of them without barriers between the dispatches of a token.
            more = {"gpu_chaining": "on"} if (plan, quant) == ("gpu", "int4") else {}
            setattr(DemoModelTest, f"test_{plan}_{quant}", lambda self, plan=plan, quant=quant, more=more: self.ask(plan, quant, **more))


add_tests()

if __name__ == "__main__":
    unittest.main(verbosity=2)
