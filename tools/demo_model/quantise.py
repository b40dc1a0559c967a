"""Rounding weights as Tandem stores them: groups of 32 along the input dimension, one float16 scale each.

int8: scale = largest magnitude / 127, rounded to float16 before it divides (GGUF's Q8_0).
int4: scale = m / -8 with m the value of largest magnitude, its sign kept; values floor(x / scale + 8.5) - 8 in -8 .. 7 (GGUF's Q4_0).
"""

import torch

GROUP = 32


def _grouped(weight):
    return weight.float().unflatten(-1, (-1, GROUP))


def int8_parts(weight):
    """(values -127 .. 127, scales), float32 [..., groups, 32] and [..., groups, 1]."""
    w = _grouped(weight)
    scale = (w.abs().amax(-1, keepdim=True) / 127).half().float()
    inverse = torch.where(scale > 0, 1 / scale, 0)
    return torch.round(w * inverse).clamp(-127, 127), scale


def int8(weight):
    values, scale = int8_parts(weight)
    return (values * scale).flatten(-2)


def int4(weight):
    w = _grouped(weight)
    largest = w.gather(-1, w.abs().argmax(-1, keepdim=True))
    scale = (largest / -8).half().float()
    inverse = torch.where(scale != 0, 1 / scale, 0)
    return ((torch.floor((w * inverse + 8.5).clamp(0, 15)) - 8) * scale).flatten(-2)


FORMATS = {"bf16": lambda w: w.bfloat16().float(), "int8": int8, "int4": int4}


def is_matrix(name):
    """Whether a parameter of the transformers model is stored in the weight format (all but norms)."""
    return not name.endswith("norm.weight") and "layernorm" not in name


@torch.no_grad()
def apply(model, name):
    """Rounds every matrix of a model, the embedding included."""
    for key, parameter in model.named_parameters():
        if is_matrix(key):
            parameter.copy_(FORMATS[name](parameter))
    return model
