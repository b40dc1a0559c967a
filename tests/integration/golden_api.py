"""Compares what the public API says with the golden references: log-probabilities of every prompt position, and greedy tokens."""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib

from cluster import GOLDEN, ROOT, Cluster
from golden_sets import read_safetensors

BEST = 10
# Where the reference's margin is smaller, another rounding may pick the other token.
MARGIN = 0.05
LONG = 64


@dataclasses.dataclass
class Result:
    set_name: str
    plan: str
    devices: str
    positions: int = 0
    embeddings: int = 0
    largest_of_embeddings: float = 0.0
    largest_difference: float = 0.0
    greedy_checked: int = 0
    greedy_wrong: int = 0


def golden_folders() -> list[pathlib.Path]:
    """The committed sets, and the full ones where they are."""
    folders = sorted(p for p in GOLDEN.iterdir() if (p / "cases.json").exists())
    full = pathlib.Path(os.environ.get("TANDEM_GOLDEN_DIR", ROOT.parent / "shared/golden"))
    if full.is_dir():
        folders += sorted(p for p in full.iterdir() if (p / "cases.json").exists())
    return folders


def reference_best(folder: pathlib.Path) -> dict[int, list[list[tuple[int, float]]]]:
    """For each case and position: the reference's ten best (token, log-probability)."""
    import math
    tensors = read_safetensors(folder / "reference.safetensors")
    cases = {}
    for name, (shape, values) in tensors.items():
        if name.startswith("top_ids_"):
            number = int(name.rsplit("_", 1)[1])
            scores = tensors[f"top_logprobs_{number}"][1]
            cases[number] = [[(values[i * BEST + k], scores[i * BEST + k]) for k in range(BEST)] for i in range(shape[0])]
        elif name.startswith("logits_"):
            rows = []
            for i in range(shape[0]):
                row = values[i * shape[1]:(i + 1) * shape[1]]
                top = max(row)
                normaliser = top + math.log(math.fsum(math.exp(x - top) for x in row))
                best = sorted(range(len(row)), key=lambda k, row=row: (-row[k], k))[:BEST]
                rows.append([(k, row[k] - normaliser) for k in best])
            cases[int(name.rsplit("_", 1)[1])] = rows
    return cases


def token_id(text: str) -> int:
    assert text.startswith("token_id:"), text
    return int(text.removeprefix("token_id:"))


def compare_case(cluster: Cluster, case: dict, best: list, result: Result) -> None:
    length = len(case["greedy"])
    answer = cluster.complete(case["ids"], echo=True, logprobs=20, max_tokens=length, temperature=0, ignore_eos=True, return_tokens_as_token_ids=True)
    entry = answer["choices"][0]["logprobs"]
    tokens = [token_id(t) for t in entry["tokens"]]
    prompt = len(case["ids"])
    assert tokens[:prompt] == case["ids"], "the echo gives the prompt back"
    assert entry["token_logprobs"][0] is None and len(tokens) == prompt + length, (len(tokens), prompt, length)
    for position, reference in enumerate(best):
        ours = {token_id(t): p for t, p in entry["top_logprobs"][position + 1].items()}
        for token, logprob in reference:
            # A token of the ten best that is not among our twenty is at least as far off as our last one.
            found = ours.get(token, min(ours.values()))
            result.largest_difference = max(result.largest_difference, abs(found - logprob))
        result.positions += 1
    for step, (expected, margin) in enumerate(zip(case["greedy"], case["greedy_margin"])):
        if tokens[prompt + step] != expected:
            result.greedy_wrong += margin > MARGIN
            break  # from here on the texts differ
        result.greedy_checked += 1


def embedding_table(folder: pathlib.Path):
    """The rows of the checkpoint's embedding, which is its head too: (hidden, values)."""
    for file in sorted(folder.glob("model*.safetensors")):
        for shape, values in read_safetensors(file, "embed_tokens.weight").values():
            return shape[1], values
    raise AssertionError(f"{folder}: no embedding")


def compare_embeddings(cluster: Cluster, table, case: dict, best: list, result: Result) -> None:
    """From the means of a prompt's beginnings to its hidden states, and through the head to the reference's log-probabilities."""
    hidden, values = table
    ids = case["ids"]
    status, answer, _ = cluster.request("POST", "/v1/embeddings", {"input": [ids[:n + 1] for n in range(len(ids))], "embd_normalize": -1})
    assert status == 200, answer
    before = [0.0] * hidden
    for position, entry in enumerate(answer["data"]):
        total = [value * (position + 1) for value in entry["embedding"]]
        state = [a - b for a, b in zip(total, before)]
        before = total
        logits = [sum(values[token * hidden + i] * state[i] for i in range(hidden)) for token, _ in best[position]]
        for (_, logprob), logit in zip(best[position], logits):
            difference = abs((logit - logits[0]) - (logprob - best[position][0][1]))
            result.largest_of_embeddings = max(result.largest_of_embeddings, difference)
        result.embeddings += 1


def run_set(folder: pathlib.Path, plan: str, model: pathlib.Path | None = None, **flags) -> Result:
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    best = reference_best(folder)
    # A GGUF file says the same as the folder beside it.
    table = embedding_table(folder) if model is None else None
    with Cluster(model or folder, plan=plan, quant="bf16", kv_type="float32", **flags) as cluster:
        devices = sorted({f"{w['device_kind']}: {w['device_name']}" for w in cluster.status()["workers"]})
        origin = "" if folder.parent == GOLDEN else "full "
        result = Result(origin + (model or folder).name, plan, ", ".join(devices))
        for number, case in enumerate(cases):
            compare_case(cluster, case, best[number], result)
            # Every beginning of a long prompt would take too long.
            if table is not None and len(case["ids"]) < LONG:
                compare_embeddings(cluster, table, case, best[number], result)
    return result
