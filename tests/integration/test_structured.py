"""Structured output and tools, end to end: the demo model, real processes, an independent validator (jsonschema).

  test_structured.py [--schemas 1000]     without: 60 random schemas, and a worker killed under one plan instead of two
"""
import concurrent.futures
import json
import os
import pathlib
import random
import signal
import sys
import unittest

import jsonschema
from cluster import GPU, ROOT, Cluster

sys.path.insert(0, str(ROOT / "tests/unit/lib/constrain"))
import test_random_schemas as schemas  # noqa: E402

MODEL = next((ROOT / "models/demo").glob("*.gguf"))
PLANS = {
    "npu": {"npu": "cpu", "gpu": "none"},
    "gpu": {"gpu": GPU},
    "split": {"npu": "cpu", "gpu": GPU},
    "layers": {"gpu": f"{GPU},{GPU}"},
}
SCHEMAS = 60
ALL = "--schemas" in sys.argv
AT_A_TIME = 8
CHAT = "/v1/chat/completions"

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["cat", "dog", "a kind that has quite a long name of its own"]},
        "numbers": {"type": "array", "items": {"type": "integer", "minimum": -9, "maximum": 120}, "minItems": 3, "maxItems": 5},
        "at": {"type": "string", "format": "date"},
    },
    "required": ["name", "kind", "numbers", "at"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 16}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
                   "required": ["city", "days"], "additionalProperties": False}}}
NOW = {"type": "function", "function": {"name": "now"}}
# Nobody can follow all of its ways at once.
COSTLY = "root ::= " + " | ".join(f"r{i}" for i in range(2000)) + "".join(f'\nr{i} ::= [ab]{{{i},}} "a" [ab]{{{i}}} "b"' for i in range(2000))


def strict(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def ask(cluster: Cluster, text: str, **parameters) -> tuple[int, dict]:
    body = {"messages": [{"role": "user", "content": text}], **parameters}
    status, answer, _ = cluster.request("POST", CHAT, body)
    return status, answer


class RandomSchemasTest(unittest.TestCase):
    def test_every_answer_is_valid(self):
        pick = random.Random(7)
        asked = [(i, schemas.schema_of(pick, 2, bounded=True)) for i in range(SCHEMAS)]

        def check(number: int, schema: dict) -> str:
            status, answer = ask(cluster, "Answer in JSON.", response_format=strict(schema), seed=number, temperature=1, max_tokens=1500)
            if status == 400:
                self.assertTrue(answer["error"]["param"].startswith("response_format"), answer)
                return "refused"
            self.assertEqual(status, 200, (answer, schema))
            choice = answer["choices"][0]
            self.assertEqual(choice["finish_reason"], "stop", (choice, schema))
            jsonschema.Draft202012Validator(schema).validate(json.loads(choice["message"]["content"]))
            return "valid"

        with Cluster(MODEL, **PLANS["npu"]) as cluster, concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            outcomes = list(pool.map(lambda pair: check(*pair), asked))
        print(f"{len(asked)} random schemas: {outcomes.count('valid')} answers valid, {outcomes.count('refused')} schemas refused in words")
        self.assertGreater(outcomes.count("valid"), len(asked) * 0.6)


class SameTokensTest(unittest.TestCase):
    """Under every plan, with every number of steps in flight, and across a worker's death."""
    answers: dict[str, list] = {}

    def questions(self) -> list[dict]:
        schema = {"response_format": strict(PERSON), "temperature": 0, "max_tokens": 200}
        call = {"tools": [WEATHER, NOW], "tool_choice": "required", "temperature": 0, "max_tokens": 200}
        return [schema, {**schema, "logprobs": True}, call, {"guided_regex": "[a-f]{8}(-[0-9]{4}){3}", "temperature": 0, "max_tokens": 60}]

    def run_plan(self, plan: str, **more) -> None:
        with Cluster(MODEL, plan=plan, quant="int8", kv_type="float32", activations="float32", **PLANS[plan], **more) as c:
            answers = []
            for question in self.questions():
                status, answer = ask(c, "Tell me about a cat.", **question)
                self.assertEqual(status, 200, answer)
                message = answer["choices"][0]["message"]
                for call in message.get("tool_calls", []):
                    call.pop("id")
                tokens = [t["token"] for t in ((answer["choices"][0]["logprobs"] or {}).get("content") or [])]
                answers.append((message, tokens, answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]))
            # Log-probabilities want every token from the head: nothing is jumped over, and the text is the same.
            self.assertEqual(answers[0][0], answers[1][0])
            self.assertEqual(answers[0][2], answers[1][2])
            jsonschema.Draft202012Validator(PERSON).validate(json.loads(answers[0][0]["content"]))
            self.answers[plan + str(more)] = answers
            self.assertEqual(answers, next(iter(self.answers.values())), f"plan {plan} {more} against {next(iter(self.answers))}")

    def test_npu_one_step_in_flight(self):
        self.run_plan("npu", steps_in_flight=1)

    def test_worker_killed(self):
        """The rest comes as it would have, though a worker died in the middle of it."""
        schema = {"type": "array", "items": PERSON, "minItems": 5, "maxItems": 5}
        body = {"messages": [{"role": "user", "content": "Tell me about many cats."}], "response_format": strict(schema),
                "seed": 5, "max_tokens": 1900}
        # A Vulkan device sums a prompt in another order than single tokens: what is replayed may differ in its last bits.
        exact = {"quant": "int8", "kv_type": "float32", "activations": "float32"}
        for plan, victim, temperature in (("npu", "npu0", 0.8), ("split", "npu0", 0))[:2 if ALL else 1]:
            body["temperature"] = temperature
            with self.subTest(plan=plan), Cluster(MODEL, plan=plan, **exact, **PLANS[plan]) as c:
                def run(kill: bool, **more) -> tuple[str, list[str]]:
                    text, tokens = "", []
                    for number, event in enumerate(c.stream(CHAT, {**body, **more})):
                        self.assertNotIn("error", event)
                        for choice in event["choices"]:
                            text += choice["delta"].get("content") or ""
                            tokens += [t["token"] for t in (choice["logprobs"] or {"content": []})["content"]]
                        if kill and number == 20:
                            os.kill(c.pids[victim], signal.SIGKILL)
                    return text, tokens
                text, tokens = run(False, logprobs=True)
                jsonschema.Draft202012Validator(schema).validate(json.loads(text))
                self.assertEqual(run(True, logprobs=True), (text, tokens))
                c.wait_ready()
                c.read_state()
                # And where it jumps.
                self.assertEqual(run(True)[0], text)


class ToolsTest(unittest.TestCase):
    def test_every_choice_of_a_tool(self):
        with Cluster(MODEL, **PLANS["npu"]) as c:
            tools = {"tools": [WEATHER, NOW], "max_tokens": 400, "seed": 3}
            status, answer = ask(c, "Weather in Paris?", tool_choice="required", parallel_tool_calls=False, **tools)
            self.assertEqual(status, 200, answer)
            choice = answer["choices"][0]
            self.assertEqual(choice["finish_reason"], "tool_calls")
            self.assertEqual(len(choice["message"]["tool_calls"]), 1)
            self.check_call(choice["message"]["tool_calls"][0])
            for name in ("now", "get_weather"):
                named = {"type": "function", "function": {"name": name}}
                events = list(c.stream(CHAT, {"messages": [{"role": "user", "content": "Hello"}], "tool_choice": named, **tools}))
                calls: list[dict] = []
                for event in events:
                    for delta in event["choices"][0]["delta"].get("tool_calls", []):
                        if "id" in delta:
                            calls.append({"id": delta["id"], "function": dict(delta["function"])})
                        else:
                            calls[delta["index"]]["function"]["arguments"] += delta["function"]["arguments"]
                self.assertTrue(calls)
                for call in calls:
                    self.assertEqual(call["function"]["name"], name)
                    self.check_call(call)
                self.assertEqual(events[-1]["choices"][0]["finish_reason"], "tool_calls")
            status, answer = ask(c, "What is 12 + 30?", tool_choice="none", **tools, temperature=0)
            self.assertNotIn("tool_calls", answer["choices"][0]["message"])
            self.assertIn("42", answer["choices"][0]["message"]["content"])
            # auto: a call or a text, whichever; both are whole.
            status, answer = ask(c, "What is 12 + 30?", **tools, temperature=0)
            message = answer["choices"][0]["message"]
            self.assertEqual(bool(message.get("tool_calls")), answer["choices"][0]["finish_reason"] == "tool_calls")
            for call in message.get("tool_calls", []):
                self.check_call(call)

    def check_call(self, call: dict) -> None:
        arguments = json.loads(call["function"]["arguments"])
        schema = WEATHER["function"]["parameters"] if call["function"]["name"] == "get_weather" else {"type": "object", "maxProperties": 0}
        jsonschema.Draft202012Validator(schema).validate(arguments)

    def test_a_costly_grammar_ends_its_own_request_alone(self):
        with Cluster(MODEL, **PLANS["npu"]) as c, concurrent.futures.ThreadPoolExecutor(4) as pool:
            question = {"response_format": strict(PERSON), "temperature": 0, "max_tokens": 200}
            alone = ask(c, "Tell me about a cat.", **question)[1]["choices"]
            pid = c.pids["npu0"]
            hostile = [pool.submit(ask, c, "Hello", grammar=COSTLY + f"# {i}", max_tokens=20) for i in range(4)]
            together = [ask(c, "Tell me about a cat.", **question)[1]["choices"] for _ in range(3)]
            for request in hostile:
                status, answer = request.result()
                self.assertEqual(status, 400, answer)
                self.assertIn("too large or too ambiguous", answer["error"]["message"])
            self.assertEqual(together, [alone] * 3)
            c.read_state()
            self.assertEqual(c.pids["npu0"], pid)


for name in PLANS:
    setattr(SameTokensTest, f"test_{name}", lambda self, plan=name: self.run_plan(plan))

if __name__ == "__main__":
    if "--schemas" in sys.argv:
        at = sys.argv.index("--schemas")
        SCHEMAS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    unittest.main(verbosity=2)
