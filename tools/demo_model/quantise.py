"""Rounding weights as Tandem stores them: groups of 32 along the input dimension, one float16 scale each.

int8 is GGUF's Q8_0. int4 has two rules: symmetric (scale = largest magnitude / 7), and GGUF's Q4_0 (scale = largest signed value / -8).
"""

import torch

GROUP = 32


def _grouped(weight):
    return weight.float().unflatten(-1, (-1, GROUP))


def int8(weight):
    """The values that Q8_0 gives back."""
    w = _grouped(weight)
    scale = w.abs().amax(-1, keepdim=True) / 127
    stored = scale.half().float()
    inverse = torch.where(scale > 0, 1 / scale, 0)
    return (torch.round(w * inverse).clamp(-127, 127) * stored).flatten(-2)


def int4(weight):
    """Symmetric: values -7 .. 7."""
    w = _grouped(weight)
    scale = (w.abs().amax(-1, keepdim=True) / 7).half().float()
    inverse = torch.where(scale > 0, 1 / scale, 0)
    return (torch.round(w * inverse).clamp(-7, 7) * scale).flatten(-2)


def q4_0(weight):
    """GGUF's Q4_0: values -8 .. 7, the largest magnitude is always -8."""
    w = _grouped(weight)
    largest = w.gather(-1, w.abs().argmax(-1, keepdim=True))
    scale = largest / -8
    inverse = torch.where(scale != 0, 1 / scale, 0)
    return (torch.floor(w * inverse + 8.5).clamp(0, 15).sub(8) * scale.half().float()).flatten(-2)


FORMATS = {"bf16": lambda w: w.bfloat16().float(), "int8": int8, "int4": int4, "q4_0": q4_0}


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
