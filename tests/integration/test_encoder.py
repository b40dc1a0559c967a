"""An embedding model: its golden embeddings over the public API, under every plan and from both kinds of files; what it refuses."""
import concurrent.futures
import json
import math
import unittest

from cluster import GOLDEN, GPU, Cluster
from golden_sets import read_safetensors

FOLDER = GOLDEN / "encoder"
PLANS = {
    "npu": dict(npu="cpu", gpu="none"),
    "gpu": dict(gpu=GPU),
    "split": dict(npu="cpu", gpu=GPU),
    "layers": dict(gpu=f"{GPU},{GPU}"),
}
# Of a value of an embedding of length 1, with bf16 weights.
BOUND = 1e-3


def golden() -> tuple[list[dict], list[list[float]]]:
    texts = json.loads((FOLDER / "texts.json").read_text())["texts"]
    tensors = read_safetensors(FOLDER / "reference.safetensors")
    return texts, [list(tensors[f"embedding_{i}"][1]) for i in range(len(texts))]


def largest_difference(expected: list, found: list) -> float:
    assert [len(row) for row in expected] == [len(row) for row in found]
    return max(abs(a - b) for one, other in zip(expected, found) for a, b in zip(one, other))


def embed(cluster: Cluster, inputs: list, **parameters) -> list[list[float]]:
    status, answer, _ = cluster.request("POST", "/v1/embeddings", {"model": cluster.model, "input": inputs, **parameters})
    assert status == 200, (status, answer)
    return [entry["embedding"] for entry in answer["data"]]


class EncoderTest(unittest.TestCase):
    def check_golden(self, plan: str, model=FOLDER) -> None:
        texts, expected = golden()
        if model != FOLDER:
            # This tokenizer spells symbols of spaces with spaces, which GGUF cannot tell from its own sign for them.
            kept = [i for i, text in enumerate(texts) if "  " not in text["text"]]
            texts, expected = [texts[i] for i in kept], [expected[i] for i in kept]
            self.assertGreaterEqual(len(texts), 5)
        with Cluster(model, plan=plan, quant="bf16", kv_type="float32", **PLANS[plan]) as cluster:
            # The longest is more than a step of a model that generates.
            self.assertGreater(max(len(t["ids"]) for t in texts), 512)
            for name, inputs in (("texts", [t["text"] for t in texts]), ("tokens", [t["ids"] for t in texts])):
                difference = largest_difference(expected, embed(cluster, inputs))
                print(f"encoder {model.name} {plan}: {name}: largest difference {difference:.6f}", flush=True)
                self.assertLessEqual(difference, BOUND)
            self.assertIn("embedding model", cluster.tandem("status").stdout)
            self.check_many(cluster, texts, expected)

    def check_many(self, cluster: Cluster, texts: list[dict], expected: list[list[float]]) -> None:
        """Many clients at once: texts that stand in one step do not see each other."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: embed(cluster, [texts[i % len(texts)]["text"]])[0], range(24)))
        self.assertLessEqual(largest_difference([expected[i % len(texts)] for i in range(24)], found), BOUND)

    def test_gguf(self):
        self.check_golden("npu", FOLDER / "encoder-bf16.gguf")

    def test_auto(self):
        texts, expected = golden()
        with Cluster(FOLDER, plan="auto", quant="bf16", kv_type="float32", npu="cpu", gpu=GPU) as cluster:
            self.assertLessEqual(largest_difference(expected, embed(cluster, [t["text"] for t in texts])), BOUND)

    def test_what_it_grants_and_refuses(self):
        texts, expected = golden()
        with Cluster(FOLDER, plan="npu", quant="bf16", kv_type="float32", **PLANS["npu"]) as cluster:
            for size in (32, 16, 1):
                cut = [row[:size] for row in expected]
                wanted = [[x / math.sqrt(math.fsum(y * y for y in row)) for x in row] for row in cut]
                self.assertLessEqual(largest_difference(wanted, embed(cluster, [t["text"] for t in texts], dimensions=size)), 5e-3)
            status, answer, _ = cluster.request("POST", "/api/embed", {"input": texts[0]["text"], "dimensions": 8})
            self.assertEqual((status, len(answer["embeddings"][0])), (200, 8))
            self.assertEqual(cluster.request("POST", "/v1/embeddings", {"input": "x", "dimensions": 33})[0], 400)
            messages = [{"role": "user", "content": "Hello"}]
            for path, body in (("/v1/chat/completions", {"messages": messages}), ("/v1/completions", {"prompt": "Hello"}),
                               ("/v1/messages", {"messages": messages, "max_tokens": 4}), ("/v1/responses", {"input": "Hello"}),
                               ("/api/chat", {"messages": messages}), ("/api/generate", {"prompt": "Hello"})):
                status, answer, _ = cluster.request("POST", path, {"model": cluster.model, **body})
                self.assertEqual(status, 400, path)
                self.assertIn("is an embedding model", json.dumps(answer), path)
            status, answer, _ = cluster.request("POST", "/v1/embeddings", {"input": [5] * 2049})
            self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"))
            self.assertEqual(len(embed(cluster, [[5] * 2048])[0]), 32)
            self.assertEqual(cluster.request("GET", "/v1/models")[1]["data"][0]["capabilities"], ["embedding"])
            self.assertEqual(cluster.request("POST", "/api/show", {"model": cluster.model})[1]["capabilities"], ["embedding"])
            ids = cluster.request("POST", "/tokenize", {"prompt": texts[0]["text"]})[1]["tokens"]
            self.assertEqual(ids, texts[0]["ids"])

    def test_short_steps_are_named(self):
        with Cluster(FOLDER, plan="npu", max_tokens_per_step=64, max_sequences=8, **PLANS["npu"]) as cluster:
            status, answer, _ = cluster.request("POST", "/v1/embeddings", {"input": [5] * 65})
            self.assertEqual(status, 400)
            for part in ("2048 tokens", "64 tokens (--max_tokens_per_step)"):
                self.assertIn(part, answer["error"]["message"])
            self.assertEqual(len(embed(cluster, [[5] * 64, [7] * 64, [9]])), 3)


def add_tests() -> None:
    for plan in PLANS:
        setattr(EncoderTest, f"test_golden_{plan}", lambda self, plan=plan: self.check_golden(plan))


add_tests()

if __name__ == "__main__":
    unittest.main(verbosity=2)
