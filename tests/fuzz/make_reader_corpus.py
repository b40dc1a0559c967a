#!/usr/bin/env python3
"""Writes the corpora of fuzz_safetensors, fuzz_gguf and fuzz_config_json: small sound files, and some that are broken in known ways.

    python3 tests/fuzz/make_reader_corpus.py     # into tests/fuzz/corpus
"""
import json
import os
import struct

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
U32, F32, BOOL, STRING, ARRAY, U64, I32, F64 = 4, 6, 7, 8, 9, 10, 5, 12


def put(target, name, data):
    folder = os.path.join(CORPUS, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


# ---- safetensors ----
def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write_safetensors():
    good = {"__metadata__": {"format": "pt"}, "model.norm.weight": entry("BF16", [4], 0, 8),
            "language_model.model.layers.0.self_attn.q_proj.weight": entry("F32", [2, 2], 8, 24), "x": entry("F16", [], 24, 26)}
    put("fuzz_safetensors", "good", safetensors(good, bytes(26)))
    put("fuzz_safetensors", "empty", b"")
    put("fuzz_safetensors", "no_tensors", safetensors({}, b""))
    put("fuzz_safetensors", "truncated", safetensors(good, bytes(25)))
    put("fuzz_safetensors", "length_past_end", struct.pack("<Q", 1 << 40) + b"{}")
    put("fuzz_safetensors", "overlap", safetensors({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12)))
    put("fuzz_safetensors", "twice", safetensors(b'{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":3}', b"x"))
    put("fuzz_safetensors", "huge_shape", safetensors({"a": entry("F64", [1 << 40, 1 << 40], 0, 8)}, bytes(8)))
    put("fuzz_safetensors", "deep", safetensors(b'{"a":' + b"[" * 50 + b"]" * 50 + b"}", b""))


MODULES = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Dense", "Dense"), ("4_Normalize", "Normalize")]


def write_modules():
    modules = [{"path": path, "type": "sentence_transformers.models." + kind} for path, kind in MODULES]
    put("fuzz_safetensors", "modules.json", json.dumps(modules).encode())
    put("fuzz_safetensors", "pooling.json",
        json.dumps({"word_embedding_dimension": 768, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}).encode())
    put("fuzz_safetensors", "dense.json",
        json.dumps({"in_features": 768, "out_features": 3072, "bias": False, "activation_function": "torch.nn.Identity"}).encode())


# ---- GGUF ----
def s(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def kv(key, kind, value):
    formats = {U32: "<I", F32: "<f", BOOL: "<?", U64: "<Q", F64: "<d"}
    return s(key) + struct.pack("<I", kind) + (s(value) if kind == STRING else struct.pack(formats[kind], value))


def array(key, kind, values):
    body = b"".join(s(v) if kind == STRING else struct.pack({F32: "<f", I32: "<i", BOOL: "<?"}[kind], v) for v in values)
    return s(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + body


def gguf(metadata, tensors, version=3, magic=b"GGUF"):
    """tensors: (name, dims, type, data)"""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(metadata)) + b"".join(metadata)
    data = b""
    for name, dims, kind, body in tensors:
        head += s(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, len(data))
        data += body + bytes(-len(body) % 32)
    return head + bytes(-len(head) % 32) + data


def pieces():
    texts = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"] + [f"<0x{b:02X}>" for b in range(256)]
    texts += ["a", "b", "ab", "\u2581"]
    types = [3, 3, 3, 2, 3, 3] + [6] * 256 + [1] * 4
    return texts, [-float(i) for i in range(len(texts))], types


def model(kind, block_bytes, elements, name="gemma3"):
    """One layer of hidden 32 (256 for the K types), every matrix of type `kind`."""
    hidden = max(32, elements)
    texts, scores, types = pieces()
    metadata = [kv("general.architecture", STRING, name), kv(name + ".context_length", U32, 64), kv(name + ".embedding_length", U32, hidden),
                kv(name + ".block_count", U32, 1), kv(name + ".feed_forward_length", U32, hidden), kv(name + ".attention.head_count", U32, 1),
                kv(name + ".attention.head_count_kv", U32, 1), kv(name + ".attention.key_length", U32, hidden),
                kv(name + ".attention.value_length", U32, hidden), kv(name + ".attention.layer_norm_rms_epsilon", F32, 1e-6),
                kv(name + ".attention.sliding_window", U32, 8), array(name + ".attention.sliding_window_pattern", BOOL, [True]),
                kv(name + ".rope.scaling.type", STRING, "linear"), kv(name + ".rope.scaling.factor", F32, 8.0),
                kv("tokenizer.ggml.model", STRING, "llama"), array("tokenizer.ggml.tokens", STRING, texts),
                array("tokenizer.ggml.scores", F32, scores), array("tokenizer.ggml.token_type", I32, types),
                kv("tokenizer.ggml.bos_token_id", U32, 2), kv("tokenizer.ggml.eos_token_id", U32, 1),
                kv("tokenizer.ggml.unknown_token_id", U32, 3), kv("tokenizer.ggml.padding_token_id", U32, 0),
                kv("tokenizer.ggml.add_space_prefix", BOOL, False), kv("tokenizer.chat_template", STRING, "{{ bos_token }}")]

    def matrix(tensor, rows):
        return (tensor, [hidden, rows], kind, bytes(hidden // elements * block_bytes * rows))

    def vector(tensor):
        return (tensor, [hidden], 0, struct.pack("<f", 1.0) * hidden)

    tensors = [matrix("token_embd.weight", len(texts)), vector("output_norm.weight")]
    tensors += [vector(f"blk.0.{n}.weight") for n in ("attn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")]
    tensors += [matrix(f"blk.0.{n}.weight", hidden) for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")]
    if name == "gemma-embedding":
        metadata += [kv(name + ".pooling_type", U32, 1)]
        metadata += [kv(f"{name}.dense_{n}_feat_{way}", U32, hidden) for n in (2, 3) for way in ("in", "out")]
        tensors += [matrix(f"dense_{n}.weight", hidden) for n in (2, 3)]
    return gguf(metadata, tensors)


def write_gguf():
    for name, kind, block_bytes, elements in (("q4_0", 2, 18, 32), ("q8_0", 8, 34, 32), ("bf16", 30, 2, 1)):
        put("fuzz_gguf", "model_" + name, model(kind, block_bytes, elements))
    for name, kind, block_bytes in (("q4_k", 12, 144), ("q5_k", 13, 176), ("q6_k", 14, 210)):
        put("fuzz_gguf", "block_" + name, gguf([kv("general.architecture", STRING, "gemma3")], [("t", [256], kind, bytes(range(200)) + bytes(block_bytes - 200) if block_bytes > 200 else bytes(range(block_bytes)))]))
    small = [kv("general.architecture", STRING, "gemma3"), kv("a", U64, 1 << 60), kv("b", F64, 0.5), kv("general.alignment", U32, 64)]
    put("fuzz_gguf", "small", gguf(small, [("x", [32, 2], 0, bytes(256)), ("y", [32], 99, b"")]))
    put("fuzz_gguf", "encoder", model(30, 2, 1, "gemma-embedding"))
    put("fuzz_gguf", "empty", b"")
    put("fuzz_gguf", "version_2", gguf(small, [], version=2))
    put("fuzz_gguf", "truncated", gguf(small, [("x", [32], 0, bytes(128))])[:-64])
    put("fuzz_gguf", "huge_counts", b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1 << 62))
    put("fuzz_gguf", "huge_array", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + s("k") + struct.pack("<IIQ", ARRAY, STRING, 1 << 62))


# ---- config.json ----
def write_configs():
    flat = {"model_type": "gemma3_text", "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 24,
            "max_position_embeddings": 4096, "bos_token_id": 2, "eos_token_id": 1, "rms_norm_eps": 1e-6}
    new = {**flat, "layer_types": ["sliding_attention", "full_attention"],
           "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                               "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}
    old = {**flat, "sliding_window_pattern": 6, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
           "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    for name, config in (("new", new), ("old", old), ("nested", {"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": new}),
                         ("defaults", {"model_type": "gemma3_text"}), ("layers", {**flat, "num_hidden_layers": 1 << 31}),
                         ("encoder", {**flat, "use_bidirectional_attention": True}),
                         ("softcap", {**flat, "final_logit_softcapping": 30.0})):
        put("fuzz_config_json", name, json.dumps(config).encode())
    put("fuzz_config_json", "broken", b'{"model_type":')
    put("fuzz_config_json", "deep", b"[" * 2000)


write_safetensors()
write_modules()
write_gguf()
write_configs()
