"""Trains the demo model on generated conversations.

    python3 tools/demo_model/train.py --steps 6000 --out DIR

Writes DIR/checkpoint-{0,1}.safetensors (bfloat16) and DIR/train.json. Needs the tokenizer and the held-out sets, which are in the repository.
"""

import argparse
import functools
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import config
import heldout
from optimiser import Optimiser
from packing import IGNORE, Batches


@functools.lru_cache(maxsize=1)
def _block_mask():
    from torch.nn.attention.flex_attention import create_block_mask

    return torch.compile(create_block_mask)


def flex_masks(documents):
    """Block masks for FlexAttention: causal, within a document, and for local layers within the window."""
    rows, row = documents.shape

    def full(b, h, q, k):
        return (q >= k) & (documents[b, q] == documents[b, k])

    def window(b, h, q, k):
        return (q >= k) & (q - k < config.WINDOW) & (documents[b, q] == documents[b, k])

    make = lambda f: _block_mask()(f, rows, None, row, row, device=documents.device)
    return {"full_attention": make(full), "sliding_attention": make(window)}


def dense_masks(documents):
    """The same as boolean tensors [rows, 1, row, row]."""
    at = torch.arange(documents.shape[1], device=documents.device)
    distance = at[:, None] - at[None, :]
    full = (documents[:, :, None] == documents[:, None, :]) & (distance >= 0)
    return {
        "full_attention": full[:, None],
        "sliding_attention": (full & (distance < config.WINDOW))[:, None],
    }


def register_flex():
    from torch.nn.attention.flex_attention import flex_attention
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def attend(module, query, key, value, attention_mask, scaling=None, **_):
        out = flex_attention(
            query.to(value.dtype),
            key.to(value.dtype),
            value,
            block_mask=attention_mask,
            scale=scaling,
            enable_gqa=True,
        )
        return out.transpose(1, 2).contiguous(), None

    ALL_ATTENTION_FUNCTIONS.register("packed_flex", attend)


def loss_of(hidden, embedding, labels):
    logits = (hidden.flatten(0, 1) @ embedding.t()).float()
    return F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE)


def schedule(step, steps):
    """Share of the full learning rate: a short warm-up, then a cosine down to 1 %."""
    warm = max(1, int(steps * config.WARMUP))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def weight_format(step, steps):
    """In the last part, most steps see rounded weights."""
    if step < steps * config.QUANTISED_FROM:
        return ""
    return ["", "int4", "int8", "int4", "int4", "int4"][step % 6]


def save(model, out):
    """The weights in bfloat16, in two files (so that each stays small)."""
    state = {
        k: v.detach().bfloat16().cpu().contiguous()
        for k, v in model.state_dict().items()
        if k != "lm_head.weight"
    }
    names = sorted(state)
    half = sum(v.numel() for v in state.values()) // 2
    parts, size = [{}, {}], 0
    for name in names:
        parts[0 if size < half else 1][name] = state[name]
        size += state[name].numel()
    for i, part in enumerate(parts):
        save_file(part, str(out / f"checkpoint-{i}.safetensors"), metadata={"format": "pt"})


def load(model, folder):
    state = {}
    for i in range(2):
        state.update(load_file(str(Path(folder) / f"checkpoint-{i}.safetensors")))
    missing, unexpected = model.load_state_dict(
        {k: v.float() for k, v in state.items()}, strict=False
    )
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def build(args, device):
    from transformers import Gemma3ForCausalLM

    torch.manual_seed(config.SEED)
    flex = args.attention == "flex"
    if flex:
        register_flex()
    model = (
        Gemma3ForCausalLM(config.model_config("packed_flex" if flex else "sdpa")).float().train()
    )
    if args.init:
        load(model, args.init)
    model = model.to(device)
    if args.compile:
        for layer in model.model.layers:
            layer.compile()
    return model


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", help="folder of a checkpoint to start from")
    parser.add_argument("--attention", choices=["flex", "sdpa"], default="flex")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 4))
    parser.add_argument("--seconds", type=float, default=0, help="stop early after this long")
    return parser.parse_args()


def train_step(model, optimiser, arrays, masks_of, loss_fn, step, steps):
    """One update on one batch; the loss as a tensor, so that nothing waits for the device."""
    device = model.device
    ids, labels, positions, documents = (
        torch.from_numpy(a).to(device, non_blocking=True).long() for a in arrays
    )
    masks = masks_of(documents.int())
    optimiser.show(weight_format(step, steps))
    with torch.autocast(device.type, torch.bfloat16):
        hidden = model.model(
            input_ids=ids, position_ids=positions, attention_mask=masks, use_cache=False
        ).last_hidden_state
        loss = loss_fn(hidden, model.model.embed_tokens.weight, labels)
    loss.backward()
    optimiser.step(schedule(step, steps))
    return loss.detach()


def main():
    args = arguments()
    started = time.time()
    args.out.mkdir(parents=True, exist_ok=True)
    batches = Batches(args.steps, heldout.forbidden(), args.workers)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    model = build(args, device)
    optimiser = Optimiser(model)
    result = {"planned": args.steps, "parameters": sum(p.numel() for p in model.parameters())}
    print(f"{result['parameters']} parameters, torch {torch.__version__}, {device}", flush=True)
    loss_fn = torch.compile(loss_of) if args.compile else loss_of
    masks_of = flex_masks if args.attention == "flex" else dense_masks
    log, losses, mark = [], [], time.time()
    for step, arrays in enumerate(batches):
        losses.append(train_step(model, optimiser, arrays, masks_of, loss_fn, step, args.steps))
        if step % 100 == 99 or step in (0, 4, 19) or step == args.steps - 1:
            mean, tokens = float(torch.stack(losses).mean()), len(losses) * arrays[0].size
            losses.clear()
            entry = {"step": step + 1, "loss": round(mean, 4)}
            entry["seconds"] = round(time.time() - started, 1)
            entry["tokens_per_s"] = round(tokens / (time.time() - mark))
            mark = time.time()
            log.append(entry)
            print(json.dumps(entry), flush=True)
            assert math.isfinite(mean), "the loss is not finite"
        if args.seconds and time.time() - started > args.seconds:
            print(f"stopped by --seconds at step {step + 1}")
            break
    optimiser.show("")
    save(model, args.out)
    result.update(steps=step + 1, seconds=round(time.time() - started, 1))
    if device.type == "cuda":
        result["device"] = torch.cuda.get_device_name()
        result["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    print(result)
    (args.out / "train.json").write_text(json.dumps({**result, "log": log}, indent=1))


if __name__ == "__main__":
    main()
