#!/usr/bin/env python3
"""Makes the committed golden sets from the full ones: fewer layers, a narrower feed-forward network, the ten best of every position.

    python3 tools/golden/trim.py FULL_SETS OUT        (torch, transformers, safetensors; the versions stand in cases.json)

A trimmed checkpoint is a model of its own, so its reference is computed anew, by Hugging Face transformers in float32 on the bf16 weights.
tests/golden/README.md describes the files.
"""
import copy
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

# set: (layers kept, feed-forward rows kept, GGUF kept). A sliding and a global layer each; `tiny` stays whole.
SETS = {"tiny": (range(8), 256), "like27b": ([4, 5], 256), "like1b": ([0, 5], 256)}
BEST = 10
GREEDY = 24


def read_weights(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    weights = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "pt") as f:
            weights.update({name.removeprefix("language_model."): f.get_tensor(name) for name in f.keys()})
    return weights


def trim_weights(weights: dict, layers: list[int], ffn: int) -> dict:
    kept = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if parts[1] == "layers":
            if int(parts[2]) not in layers:
                continue
            parts[2] = str(list(layers).index(int(parts[2])))
        if parts[-2] in ("gate_proj", "up_proj"):
            tensor = tensor[:ffn]
        if parts[-2] == "down_proj":
            tensor = tensor[:, :ffn]
        kept[".".join(parts)] = tensor.contiguous()
    return kept


def text_part(config: dict) -> dict:
    return config.get("text_config", config)


def trim_config(config: dict, layers: list[int], ffn: int) -> dict:
    config = copy.deepcopy(config)
    text = text_part(config)
    if "layer_types" in text:
        text["layer_types"] = [text["layer_types"][i] for i in layers]
    text["num_hidden_layers"] = len(layers)
    text["intermediate_size"] = ffn
    return config


def best_of(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    top = torch.topk(torch.log_softmax(logits.double(), -1), BEST, -1)
    return top.indices.to(torch.int32), top.values.float()


def reference(model, case: dict) -> tuple[dict, torch.Tensor]:
    logits = model(torch.tensor([case["ids"]])).logits[0].float()
    tokens, margins, past, current = [], [], None, torch.tensor([case["ids"]])
    for _ in range(GREEDY):
        out = model(current, past_key_values=past, use_cache=True)
        past, last = out.past_key_values, out.logits[0, -1].float()
        two = torch.topk(last, 2).values
        tokens.append(int(last.argmax()))
        margins.append(round(float(two[0] - two[1]), 6))
        current = torch.tensor([[tokens[-1]]])
    return {"prompt": case["prompt"], "ids": case["ids"], "greedy": tokens, "greedy_margin": margins}, logits


def write_weights(out: pathlib.Path, weights: dict, sharded: bool) -> None:
    if not sharded:
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
        return
    # As published multimodal checkpoints are: two shards, an index, and names with a prefix.
    weights = {"language_model." + name: tensor for name, tensor in weights.items()}
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2:]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, out / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(part, file))
    total = sum(t.numel() * t.element_size() for t in weights.values())
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1) + "\n")


def trim(full: pathlib.Path, out: pathlib.Path, layers: list[int], ffn: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    config = trim_config(json.loads((full / "config.json").read_text()), layers, ffn)
    published = trim_config(json.loads((full / "config.published.json").read_text()), layers, ffn)
    weights = trim_weights(read_weights(full), list(layers), ffn)
    text = {k: v for k, v in text_part(config).items() if k not in ("architectures", "model_type")}
    hf_config = Gemma3TextConfig(**text)
    hf_config._attn_implementation = "eager"
    model = Gemma3ForCausalLM(hf_config).eval()
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()
    cases, tensors = [], {}
    for number, case in enumerate(json.loads((full / "cases.json").read_text())["cases"]):
        result, logits = reference(model, case)
        tensors[f"best_ids_{number}"], tensors[f"best_logprobs_{number}"] = best_of(logits)
        cases.append(result)
    # The older spelling has no list of layer types; a pattern cannot say which of two layers is global unless it divides them.
    if "layer_types" in text_part(config) and len(layers) != len(text["layer_types"]):
        raise SystemExit("layers do not match")
    pattern = text["layer_types"].index("full_attention") + 1
    for c in (config, published):
        for key in ("_sliding_window_pattern", "sliding_window_pattern"):
            if key in text_part(c):
                text_part(c)[key] = pattern
    write_weights(out, weights, sharded="text_config" in config)
    save_file(tensors, out / "reference.safetensors")
    for name, value in (("config.json", config), ("config.published.json", published),
                        ("cases.json", {"transformers": transformers.__version__, "torch": torch.__version__, "cases": cases})):
        (out / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    shutil.copyfile(full / "tokenizer.model", out / "tokenizer.model")
    print(out.name, "layers", list(layers), "smallest margin", min(min(c["greedy_margin"]) for c in cases))


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    torch.set_grad_enabled(False)
    for name, (layers, ffn) in SETS.items():
        trim(pathlib.Path(sys.argv[1]) / name, pathlib.Path(sys.argv[2]) / name, list(layers), ffn)


if __name__ == "__main__":
    main()
