#!/usr/bin/env python3
"""Makes the golden set `encoder`: a small EmbeddingGemma with random weights, as sentence-transformers and as GGUF lay it out.

    python3 tools/golden/make_encoder.py LIKE OUT

LIKE/tokenizer.model is used (that of tests/golden/data/small27b, say). Needs torch, transformers, safetensors, sentencepiece and
gguf; the versions are written into texts.json. The embeddings are those of transformers' Gemma3TextModel, then the mean over all
tokens, the two matrices and the length 1, as sentence-transformers' modules define them.
"""
import argparse
import json
import os
import shutil

import gguf
import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from transformers import Gemma3TextConfig, Gemma3TextModel

from make_small import GGUF_NAMES, fill

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, DENSE, WINDOW = 32, 64, 7, 4, 1, 32, 128, 16
TEXTS = [
    "Hello",
    "task: search result | query: The creature opened the window and looked at the moon.",
    "title: none | text: It was on a dreary night of November that I beheld the accomplishment of my toils.",
    "  leading spaces\tand\ttabs\n\nnew lines\n",
    "na\u00efve caf\u00e9 \u2014 \u65e5\u672c\u8a9e \U0001f642 ",
    " ".join(["With an anxiety that almost amounted to agony, I collected the instruments of life around me."] * 24),
]


def make_config(vocab):
    config = Gemma3TextConfig(
        vocab_size=vocab, hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM, sliding_window=WINDOW, query_pre_attn_scalar=HEAD_DIM,
        max_position_embeddings=2048, rms_norm_eps=1e-6, hidden_activation="gelu_pytorch_tanh", attention_bias=False,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, use_bidirectional_attention=True,
        layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(LAYERS)],
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1e6},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})
    config._attn_implementation = "eager"
    return config


def write_json(value, *path):
    os.makedirs(os.path.join(*path[:-1]), exist_ok=True)
    with open(os.path.join(*path), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)


def save_modules(folder, up, down):
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Dense", "Dense"), ("4_Normalize", "Normalize")]
    write_json([{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (path, kind) in enumerate(kinds)], folder, "modules.json")
    pooling = {"word_embedding_dimension": HIDDEN, "include_prompt": True}
    for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"):
        pooling[f"pooling_mode_{mode}"] = mode == "mean_tokens"
    write_json(pooling, folder, "1_Pooling", "config.json")
    for name, weight in (("2_Dense", up), ("3_Dense", down)):
        write_json({"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": False,
                    "activation_function": "torch.nn.modules.linear.Identity"}, folder, name, "config.json")
        save_file({"linear.weight": weight}, os.path.join(folder, name, "model.safetensors"), metadata={"format": "pt"})
    write_json({"add_bos_token": True, "add_eos_token": True, "tokenizer_class": "GemmaTokenizer"}, folder, "tokenizer_config.json")


def add_vocabulary(w, tokenizer):
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
    w.add_add_eos_token(True)
    w.add_add_space_prefix(False)


def gguf_name(name):
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, rest = name.split(".", 2)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def save_gguf(weights, up, down, config, tokenizer, path):
    w = gguf.GGUFWriter(path, "gemma-embedding")
    w.add_name("encoder")
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_key_length(HEAD_DIM)
    w.add_value_length(HEAD_DIM)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    # As in config.json: both sides together.
    w.add_sliding_window(WINDOW)
    w.add_rope_freq_base(1e6)
    w.add_pooling_type(gguf.PoolingType.MEAN)
    for dense, weight in (("dense_2", up), ("dense_3", down)):
        w.add_uint32(f"gemma-embedding.{dense}_feat_in", weight.shape[1])
        w.add_uint32(f"gemma-embedding.{dense}_feat_out", weight.shape[0])
    add_vocabulary(w, tokenizer)
    for name, tensor in weights.items():
        if tensor.dim() == 1:
            w.add_tensor(gguf_name(name), (tensor.float() + 1).numpy())  # GGUF stores 1 + w
        else:
            raw = tensor.view(torch.uint16).numpy().view("uint8")
            w.add_tensor(gguf_name(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.add_tensor("dense_2.weight", up.numpy())
    w.add_tensor("dense_3.weight", down.numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("like")
    parser.add_argument("out")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    folder = os.path.join(args.out, "encoder")
    os.makedirs(folder, exist_ok=True)
    shutil.copyfile(os.path.join(args.like, "tokenizer.model"), os.path.join(folder, "tokenizer.model"))
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
    config = make_config(tokenizer.get_piece_size())
    model = Gemma3TextModel(config).eval()
    fill(model, HIDDEN, seed=4323)
    generator = torch.Generator().manual_seed(4324)
    # Exact in bf16, so that every way of loading them gives the same.
    up, down = ((torch.randn(rows, cols, generator=generator) / cols**0.5).to(torch.bfloat16).float()
                for rows, cols in ((DENSE, HIDDEN), (HIDDEN, DENSE)))
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    save_modules(folder, up, down)
    save_gguf(weights, up, down, config, tokenizer, os.path.join(folder, "encoder-bf16.gguf"))
    # As published checkpoints spell it: the window counts both sides.
    old = {k: v for k, v in json.loads(config.to_json_string()).items()
           if k not in ("rope_parameters", "layer_types", "dtype", "transformers_version")}
    old.update(architectures=["Gemma3TextModel"], model_type="gemma3_text", rope_theta=1e6, rope_local_base_freq=1e4, rope_scaling=None,
               torch_dtype="bfloat16", _sliding_window_pattern=6, sliding_window=WINDOW, use_bidirectional_attention=True)
    write_json(old, folder, "config.json")
    texts, reference = [], {}
    for i, text in enumerate(TEXTS):
        ids = [2] + tokenizer.encode(text) + [1]
        mean = model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
        values = down @ (up @ mean)
        reference[f"embedding_{i}"] = (values / values.norm()).contiguous()
        texts.append({"text": text, "ids": ids})
    save_file(reference, os.path.join(folder, "reference.safetensors"))
    write_json({"transformers": transformers.__version__, "torch": torch.__version__, "texts": texts}, folder, "texts.json")
    stacked = torch.stack(list(reference.values()))
    print("parameters", sum(p.numel() for p in model.parameters()), "tokens", [len(t["ids"]) for t in texts])
    print("cosines", (stacked @ stacked.T)[0].tolist())


if __name__ == "__main__":
    main()
