#!/usr/bin/env python3
"""Makes the small golden sets `small27b` and `small1b`: the traits of like27b and like1b at a tenth of their weight.

    python3 tools/golden/make_small.py FULL_SETS OUT

FULL_SETS holds like27b/ and like1b/: their tokenizers and prompts are used. Needs torch, transformers and sentencepiece
(the versions are written into cases.json) and, for the GGUF copy of small1b, the `gguf` package. Same format as the full sets;
trim.py makes what the repository carries out of it.
"""
import argparse
import json
import math
import os
import shutil

import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

SETS = {
    # q scalar != head_dim, heads * head_dim != hidden, scaled global RoPE, nested configuration, multimodal names, two shards
    "small27b": dict(like="like27b", hidden=96, ffn=128, layers=6, heads=4, kv_heads=2, head_dim=128, window=32, q_scalar=168,
                     factor=8.0, multimodal=True, seed=4321),
    # one kv head of 256, no RoPE scaling, flat configuration, one file, and the same weights as GGUF
    "small1b": dict(like="like1b", hidden=64, ffn=96, layers=7, heads=4, kv_heads=1, head_dim=256, window=32, q_scalar=256,
                    factor=None, multimodal=False, seed=4322),
}
GREEDY_TOKENS = 24


def make_config(s, vocab):
    full = {"rope_type": "default", "rope_theta": 1e6}
    if s["factor"]:
        full = {"rope_type": "linear", "factor": s["factor"], "rope_theta": 1e6}
    config = Gemma3TextConfig(
        vocab_size=vocab, hidden_size=s["hidden"], intermediate_size=s["ffn"], num_hidden_layers=s["layers"],
        num_attention_heads=s["heads"], num_key_value_heads=s["kv_heads"], head_dim=s["head_dim"],
        sliding_window=s["window"], query_pre_attn_scalar=s["q_scalar"], max_position_embeddings=4096,
        rms_norm_eps=1e-6, hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True, attention_bias=False,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
        layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(s["layers"])],
        rope_parameters={"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})
    config._attn_implementation = "eager"
    return config


def fill(model, hidden, seed):
    """Small embeddings and a large final norm: the tied head then depends on every layer, not on the last token alone."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name == "model.norm.weight":
            p.copy_(4 + noise * 0.5)
        elif p.dim() == 1:
            p.copy_(noise * 0.2)
        elif "embed" in name:
            p.copy_(noise * (0.5 / math.sqrt(hidden)))
        else:
            p.copy_(noise / math.sqrt(p.shape[1]))
        p.copy_(p.to(torch.bfloat16).to(torch.float32))


def save_weights(weights, folder, sharded):
    if not sharded:
        save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        return
    keys = sorted(weights)
    halves = (keys[:len(keys) // 2], keys[len(keys) // 2:])
    weight_map = {}
    for i, part in enumerate(halves):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({k: weights[k] for k in part}, os.path.join(folder, file), metadata={"format": "pt"})
        weight_map.update({k: file for k in part})
    total = sum(v.numel() * 2 for v in weights.values())
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, f, indent=1)


def save_configs(config, s, folder):
    new = json.loads(config.to_json_string())
    old = {k: v for k, v in new.items() if k not in ("rope_parameters", "layer_types", "dtype", "transformers_version")}
    old.update(architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", rope_theta=1e6, rope_local_base_freq=1e4,
               torch_dtype="bfloat16", sliding_window_pattern=6, cache_implementation="hybrid",
               rope_scaling={"rope_type": "linear", "factor": s["factor"]} if s["factor"] else None)
    for name, c in (("config.json", new), ("config.published.json", old)):
        if s["multimodal"]:
            text = {k: v for k, v in c.items() if k != "architectures"}
            text["model_type"] = "gemma3_text"
            c = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "eos_token_id": [1, 106],
                 "text_config": text, "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"}}
        with open(os.path.join(folder, name), "w") as f:
            json.dump(c, f, indent=1)


def run_case(model, tokenizer, prompt):
    ids = [2] + tokenizer.encode(prompt)
    logits = model(torch.tensor([ids])).logits[0].float()
    current, past, greedy, margins = torch.tensor([ids]), None, [], []
    for _ in range(GREEDY_TOKENS):
        out = model(current, past_key_values=past, use_cache=True)
        past = out.past_key_values
        last = out.logits[0, -1].float()
        top = torch.topk(last, 2).values
        greedy.append(int(last.argmax()))
        margins.append(float(top[0] - top[1]))
        current = torch.tensor([[greedy[-1]]])
    case = {"prompt": prompt, "ids": ids, "greedy": greedy, "greedy_margin": margins, "greedy_text": tokenizer.decode(greedy)}
    return case, logits.contiguous()


GGUF_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
              "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "post_attention_norm",
              "pre_feedforward_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down", "post_feedforward_layernorm": "post_ffw_norm"}


def gguf_name(name):
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def save_gguf(weights, config, tokenizer, path):
    import gguf
    import numpy
    w = gguf.GGUFWriter(path, "gemma3")
    w.add_name("small1b")
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_key_length(config.head_dim)
    w.add_value_length(config.head_dim)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_sliding_window(config.sliding_window)
    w.add_rope_freq_base(1e6)
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    tokens, scores, types = [], [], []
    for i in range(tokenizer.get_piece_size()):
        piece = tokenizer.id_to_piece(i)
        kind = gguf.TokenType.NORMAL
        if tokenizer.is_unknown(i):
            kind = gguf.TokenType.UNKNOWN
        elif tokenizer.is_control(i) or piece in ("<start_of_turn>", "<end_of_turn>"):
            kind = gguf.TokenType.CONTROL
        elif tokenizer.is_byte(i):
            kind = gguf.TokenType.BYTE
        elif 4 <= i < 114 and tokenizer.get_score(i) == 0:
            kind = gguf.TokenType.USER_DEFINED
        tokens.append(piece.encode())
        scores.append(tokenizer.get_score(i))
        types.append(kind)
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    for add, token in ((w.add_bos_token_id, 2), (w.add_eos_token_id, 1), (w.add_unk_token_id, 3), (w.add_pad_token_id, 0)):
        add(token)
    w.add_add_bos_token(True)
    w.add_add_space_prefix(False)
    for name, tensor in weights.items():
        if tensor.dim() == 1:
            w.add_tensor(gguf_name(name), (tensor.float() + 1).numpy())  # GGUF stores 1 + w
        else:
            raw = tensor.view(torch.uint16).numpy().view(numpy.uint8)
            w.add_tensor(gguf_name(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make_set(name, s, full_sets, out):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    like = os.path.join(full_sets, s["like"])
    shutil.copyfile(os.path.join(like, "tokenizer.model"), os.path.join(folder, "tokenizer.model"))
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
    with open(os.path.join(like, "cases.json"), encoding="utf-8") as f:
        prompts = [case["prompt"] for case in json.load(f)["cases"]]
    config = make_config(s, tokenizer.get_piece_size())
    model = Gemma3ForCausalLM(config).eval()
    fill(model, s["hidden"], s["seed"])
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if not k.startswith("lm_head")}
    prefix = "language_model." if s["multimodal"] else ""
    save_weights({prefix + k: v for k, v in weights.items()}, folder, sharded=s["multimodal"])
    if name == "small1b":
        save_gguf(weights, config, tokenizer, os.path.join(folder, "model-bf16.gguf"))
    save_configs(config, s, folder)
    cases, reference = [], {}
    for i, prompt in enumerate(prompts):
        case, reference[f"logits_{i}"] = run_case(model, tokenizer, prompt)
        cases.append(case)
    save_file(reference, os.path.join(folder, "reference.safetensors"))
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as f:
        json.dump({**versions, "cases": cases}, f, ensure_ascii=False, indent=1)
    print(name, "parameters", sum(p.numel() for p in model.parameters()), "logit deviation", float(reference["logits_1"].std()),
          "least margin", min(min(c["greedy_margin"]) for c in cases))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full_sets")
    parser.add_argument("out")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    for name, s in SETS.items():
        make_set(name, s, args.full_sets, args.out)


if __name__ == "__main__":
    main()
