"""Scores a checkpoint with transformers on the held-out sets: as it is (bf16) and rounded to int8 and int4.

python3 tools/demo_model/evaluate.py --checkpoint DIR
python3 tools/demo_model/evaluate.py --gguf models/demo/tandem-demo-Q8_0.gguf --formats bf16 int8 int4
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

import config
import quantise
from demo_data import tool_text
from tokenizer import Tokenizer

sys.path.insert(0, str(config.ROOT / "bench" / "quality"))
import sets  # noqa: E402


@torch.no_grad()
def generate(model, tokenizer, prompts, longest, batch):
    """Greedy answers; prompts are id lists."""
    device = next(model.parameters()).device
    answers = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: (longest[i], len(prompts[i])))
    for at in range(0, len(order), batch):
        chunk = order[at : at + batch]
        width = max(len(prompts[i]) for i in chunk)
        ids = torch.full((len(chunk), width), config.PAD)
        mask = torch.zeros((len(chunk), width), dtype=torch.long)
        for row, i in enumerate(chunk):
            ids[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]) :] = 1
        out = model.generate(
            ids.to(device),
            attention_mask=mask.to(device),
            do_sample=False,
            max_new_tokens=max(longest[i] for i in chunk),
            eos_token_id=[config.EOS, tokenizer.end],
            pad_token_id=config.PAD,
        )
        for row, i in enumerate(chunk):
            tokens = out[row, width:].tolist()[: longest[i]]
            stop = next(
                (k for k, t in enumerate(tokens) if t in (config.EOS, tokenizer.end, config.PAD)),
                len(tokens),
            )
            answers[i] = tokenizer.sp.decode(tokens[:stop])
    return answers


def scores(model, tokenizer, names, limit, batch):
    prompts = sets.read(names, limit)
    ids = [tokenizer.prompt(tool_text.plain_messages(line)) for _, line in prompts]
    answers = generate(model, tokenizer, ids, [line["max_tokens"] for _, line in prompts], batch)
    return sets.score(prompts, answers)


def load(args):
    import train
    from transformers import Gemma3ForCausalLM

    if args.gguf:
        import export

        return export.model_from_gguf(args.gguf)
    return train.load(Gemma3ForCausalLM(config.model_config()), args.checkpoint).eval()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path)
    source.add_argument("--gguf", type=Path)
    parser.add_argument(
        "--formats", nargs="*", default=["bf16", "int8", "int4"], choices=list(quantise.FORMATS)
    )
    parser.add_argument("--sets", nargs="*", choices=sets.NAMES)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--show-wrong", type=int, default=0, help="how many wrong answers of each set to print"
    )
    parser.add_argument("--ask", nargs="*", help="print the answers to these prompts instead")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = Tokenizer()
    columns = {}
    for name in args.formats:
        started = time.time()
        model = quantise.apply(load(args), name).to(device)
        if args.ask:
            ids = [tokenizer.prompt([{"role": "user", "content": q}]) for q in args.ask]
            for question, answer in zip(
                args.ask, generate(model, tokenizer, ids, [300] * len(ids), args.batch)
            ):
                print(f"[{name}] {question!r} -> {answer!r}")
            continue
        columns[name], failures = scores(model, tokenizer, args.sets, args.limit, args.batch)
        shown = {}
        for task, line, answer in failures:
            shown[task] = shown.get(task, 0) + 1
            if shown[task] <= args.show_wrong:
                print(
                    f"[{name}] {line['id']}: {[m['content'] for m in line['messages']]} -> {answer!r}, wanted {line['check']}"
                )
        print(f"{name}: {time.time() - started:.0f} s", file=sys.stderr)
    if columns:
        print(sets.markdown(columns))
        if args.json:
            args.json.write_text(
                json.dumps(
                    {c: {n: list(x) for n, x in t.items()} for c, t in columns.items()}, indent=1
                )
                + "\n"
            )


if __name__ == "__main__":
    main()
