"""Shape, training plan and paths of the demo model: the one place where they are set."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL_DIR = ROOT / "models" / "demo"
SETS_DIR = ROOT / "bench" / "quality" / "sets"
WORK_DIR = ROOT / "build" / "demo_model"  # checkpoints and other things that are not committed

SEED = 20261120

# Tokenizer: SentencePiece BPE with Gemma's special tokens.
VOCABULARY = 4096
PAD, EOS, BOS, UNK = 0, 1, 2, 3
START_OF_TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"
USER_DEFINED = ["<mask>", START_OF_TURN, END_OF_TURN, "\n", "\n\n", "\t"]

# Every matrix's input dimension is a multiple of 32: the group of Q8_0 and Q4_0.
HIDDEN = 320
FFN = 896
LAYERS = 12  # 5 local layers, then a global one, twice
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 64  # also query_pre_attn_scalar: GGUF has no field for another value
WINDOW = 256
CONTEXT = 2048
ROPE_GLOBAL, ROPE_LOCAL = 1e6, 1e4

# Training.
ROW = 2048  # tokens of a packed row
ROWS = 32  # rows of a step
ADAM_LR = 3e-3  # embedding and norms
MUON_LR = 0.02  # matrices
MOMENTUM = 0.95
WEIGHT_DECAY = 0.05
WARMUP = 0.02  # share of the time
QUANTISED_FROM = (
    0.6  # from this share of the time on, most steps see weights rounded to int8 or int4
)


def model_config(attention="sdpa"):
    """The transformers configuration."""
    from transformers import Gemma3TextConfig

    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": ROPE_GLOBAL},
        "sliding_attention": {"rope_type": "default", "rope_theta": ROPE_LOCAL},
    }
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        query_pre_attn_scalar=HEAD_DIM,
        sliding_window=WINDOW,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True,
        attention_bias=False,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        rope_parameters=rope,
        layer_types=[
            "full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(LAYERS)
        ],
    )
    config._attn_implementation = attention
    return config
