"""Writes what is shipped: the checkpoint as Q8_0 GGUF, and reference answers for tests; then checks both.

    python3 tools/demo_model/export.py --checkpoint DIR

Reads DIR/checkpoint-{0,1}.safetensors and models/demo/tokenizer.model, writes models/demo/tandem-demo-Q8_0.gguf and models/demo/reference.json.
The check reads the GGUF back, rebuilds the transformers model from it, and compares logits with the model that was written.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch

import config
import gguf
import heldout
import quantise
import tokenizer as tokenizer_module
from tokenizer import Tokenizer

GGUF_PATH = config.MODEL_DIR / "tandem-demo-Q8_0.gguf"
REFERENCE_PATH = config.MODEL_DIR / "reference.json"
MOST_BYTES = 16_000_000

# transformers name in a layer -> GGUF name in a block.
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}
CHAT_TEMPLATE = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}{%- set loop_messages = messages[1:] -%}"
    "{%- else -%}{%- set first_user_prefix = '' -%}{%- set loop_messages = messages -%}{%- endif -%}"
    "{%- for message in loop_messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('Conversation roles must alternate user/assistant') }}{%- endif -%}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + (first_user_prefix if loop.first else '') }}"
    "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)

# What the reference answers are given for; every position of each.
_PROMPTS = [
    "What is 12 + 30?",
    "What is the capital of France?",
    "Reverse the word garden.",
    "Answer in JSON: what is 7 + 8?",
    "Tell me a short story about a fox and a lantern.",
    "What is the gateway in Tandem?",
    "naïve café — 日本語 🙂",
]
_CONVERSATION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "My name is Anna."},
    {"role": "assistant", "content": "Nice to meet you, Anna!"},
    {"role": "user", "content": "What is my name?"},
]


def reference_messages():
    """The conversations of the reference; the last is longer than the sliding window."""
    tokenizer = Tokenizer()
    long = next(
        line["messages"]
        for line in heldout.read()["memory"]
        if config.WINDOW + 64 < len(tokenizer.prompt(line["messages"])) < 2 * config.WINDOW
    )
    return [[{"role": "user", "content": prompt}] for prompt in _PROMPTS] + [_CONVERSATION, long]


def names():
    """[(transformers name, GGUF name)] of every tensor."""
    out = [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ]
    for i in range(config.LAYERS):
        out += [
            (f"model.layers.{i}.{ours}.weight", f"blk.{i}.{theirs}.weight")
            for ours, theirs in _LAYER.items()
        ]
    return out


def _piece_type(sp, i):
    """GGUF's token types: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte."""
    if sp.is_unknown(i):
        return 2
    if sp.is_control(i):
        return 3
    if sp.is_byte(i):
        return 6
    return 4 if sp.id_to_piece(i) in config.USER_DEFINED else 1


def metadata(sp):
    g = "gemma3."
    ids = range(sp.vocab_size())
    entry = gguf.entry
    return [
        entry("general.architecture", gguf.STRING, "gemma3"),
        entry("general.name", gguf.STRING, "Tandem demo"),
        entry("general.license", gguf.STRING, "apache-2.0"),
        entry("general.quantization_version", gguf.U32, 2),
        entry("general.file_type", gguf.U32, 7),
        entry(g + "context_length", gguf.U32, config.CONTEXT),
        entry(g + "embedding_length", gguf.U32, config.HIDDEN),
        entry(g + "block_count", gguf.U32, config.LAYERS),
        entry(g + "feed_forward_length", gguf.U32, config.FFN),
        entry(g + "attention.head_count", gguf.U32, config.HEADS),
        entry(g + "attention.head_count_kv", gguf.U32, config.KV_HEADS),
        entry(g + "attention.key_length", gguf.U32, config.HEAD_DIM),
        entry(g + "attention.value_length", gguf.U32, config.HEAD_DIM),
        entry(g + "attention.layer_norm_rms_epsilon", gguf.F32, 1e-6),
        entry(g + "attention.sliding_window", gguf.U32, config.WINDOW),
        entry(g + "rope.freq_base", gguf.F32, config.ROPE_GLOBAL),
        entry(g + "rope.freq_base_swa", gguf.F32, config.ROPE_LOCAL),
        entry("tokenizer.ggml.model", gguf.STRING, "llama"),
        entry("tokenizer.ggml.pre", gguf.STRING, "default"),
        entry("tokenizer.ggml.tokens", gguf.STRING, [sp.id_to_piece(i) for i in ids]),
        entry("tokenizer.ggml.scores", gguf.F32, [sp.get_score(i) for i in ids]),
        entry("tokenizer.ggml.token_type", gguf.I32, [_piece_type(sp, i) for i in ids]),
        entry("tokenizer.ggml.bos_token_id", gguf.U32, config.BOS),
        entry("tokenizer.ggml.eos_token_id", gguf.U32, config.EOS),
        entry("tokenizer.ggml.unknown_token_id", gguf.U32, config.UNK),
        entry("tokenizer.ggml.padding_token_id", gguf.U32, config.PAD),
        entry("tokenizer.ggml.eot_token_id", gguf.U32, sp.piece_to_id(config.END_OF_TURN)),
        entry("tokenizer.ggml.add_bos_token", gguf.BOOL, True),
        entry("tokenizer.ggml.add_eos_token", gguf.BOOL, False),
        entry("tokenizer.ggml.add_space_prefix", gguf.BOOL, False),
        entry("tokenizer.chat_template", gguf.STRING, CHAT_TEMPLATE),
    ]


def write_gguf(model, path):
    state = model.state_dict()
    tensors = []
    for ours, theirs in names():
        weight = state[ours].detach().float().cpu()
        if quantise.is_matrix(ours):
            values, scales = quantise.int8_parts(weight)
            tensors.append(
                (
                    theirs,
                    list(weight.shape),
                    gguf.TENSOR_Q8_0,
                    gguf.q8_0(values.numpy(), scales.numpy()),
                )
            )
        else:  # GGUF keeps Gemma's norms as 1 + w
            tensors.append(
                (
                    theirs,
                    list(weight.shape),
                    gguf.TENSOR_F32,
                    (1 + weight).numpy().astype("<f4").tobytes(),
                )
            )
    sp = spm.SentencePieceProcessor(model_file=str(tokenizer_module.PATH))
    gguf.write(path, metadata(sp), tensors)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path}: {size} bytes, at most {MOST_BYTES} wanted"
    return size


def model_from_gguf(path):
    """The transformers model with the GGUF's dequantised weights, float32, after checking the metadata."""
    from transformers import Gemma3ForCausalLM

    found, tensors = gguf.read(Path(path))
    for key, want in {
        "embedding_length": config.HIDDEN,
        "block_count": config.LAYERS,
        "attention.head_count": config.HEADS,
        "attention.head_count_kv": config.KV_HEADS,
        "attention.key_length": config.HEAD_DIM,
        "feed_forward_length": config.FFN,
        "attention.sliding_window": config.WINDOW,
        "context_length": config.CONTEXT,
    }.items():
        assert found["gemma3." + key] == want, (key, found["gemma3." + key], want)
    model = Gemma3ForCausalLM(config.model_config("eager")).float().eval()
    state = {
        ours: torch.from_numpy(tensors.pop(theirs)) - (0 if quantise.is_matrix(ours) else 1)
        for ours, theirs in names()
    }
    assert not tensors, f"tensors that the model has not: {sorted(tensors)}"
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


@torch.no_grad()
def log_probabilities(model, ids):
    return torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)


@torch.no_grad()
def greedy(model, ids, longest, stop):
    """(tokens, margin between the two best logits at each), until a stop token or `longest`."""
    out, margins, past, last = [], [], None, torch.tensor([ids])
    while len(out) < longest and (not out or out[-1] not in stop):
        answer = model(last, past_key_values=past, use_cache=True)
        best = torch.topk(answer.logits[0, -1].float(), 2)
        out.append(int(best.indices[0]))
        margins.append(round(float(best.values[0] - best.values[1]), 4))
        past, last = answer.past_key_values, torch.tensor([[out[-1]]])
    return out, margins


def write_reference(model, path):
    """For each conversation: ids, greedy answer, and at every position of prompt and answer the ten best log-probabilities."""
    import transformers

    tokenizer = Tokenizer()
    stop = (config.EOS, tokenizer.end)
    cases = []
    for messages in reference_messages():
        ids = tokenizer.prompt(messages)
        answer, margins = greedy(model, ids, 60, stop)
        best = torch.topk(log_probabilities(model, ids + answer), 10, -1)
        cases.append(
            {
                "messages": messages,
                "ids": ids,
                "greedy": answer,
                "greedy_margin": margins,
                "greedy_text": tokenizer.sp.decode([t for t in answer if t not in stop]),
                "top_ids": best.indices.tolist(),
                "top_log_probabilities": [
                    [round(x, 5) for x in row] for row in best.values.tolist()
                ],
            }
        )
    about = (
        "Log-probabilities of Hugging Face transformers, float32, eager attention, on the dequantised Q8_0 weights of the GGUF beside this file. Row i of top_ids and "
        "top_log_probabilities is the distribution after token i of ids + greedy."
    )
    head = {
        "about": about,
        "model": GGUF_PATH.name,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    text = (
        json.dumps(head, ensure_ascii=False)[:-1]
        + ', "cases": [\n'
        + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases)
        + "\n]}\n"
    )
    path.write_text(text, encoding="utf-8")
    return cases


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    args = parser.parse_args()
    import train
    from transformers import Gemma3ForCausalLM

    torch.manual_seed(config.SEED)
    source = (
        train.load(Gemma3ForCausalLM(config.model_config("eager")), args.checkpoint).float().eval()
    )
    size = write_gguf(source, GGUF_PATH)
    rounded = quantise.apply(source, "int8")
    back = model_from_gguf(GGUF_PATH)
    ours, theirs = dict(rounded.named_parameters()), dict(back.named_parameters())
    worst_weight = max(float((ours[n] - theirs[n]).detach().abs().max()) for n in ours)
    ids = Tokenizer().prompt([{"role": "user", "content": "What is 12 + 30?"}])
    worst = float((log_probabilities(rounded, ids) - log_probabilities(back, ids)).abs().max())
    print(
        f"{GGUF_PATH.name}: {size} bytes; read back: largest difference of a weight {worst_weight:.2e}, of a log-probability {worst:.2e}"
    )
    assert worst_weight < 1e-6 and worst < 1e-4, "the file does not give the same model"
    cases = write_reference(back, REFERENCE_PATH)
    for case in cases:
        print(
            f"  {case['messages'][-1]['content'][-60:]!r} ({len(case['ids'])} tokens) -> {case['greedy_text']!r} (smallest margin {min(case['greedy_margin'])})"
        )
    print(f"{REFERENCE_PATH.name}: {REFERENCE_PATH.stat().st_size} bytes")
    assert np.isfinite(worst) and "42" in cases[0]["greedy_text"]


if __name__ == "__main__":
    main()
