"""The optimiser. It keeps the true weights; the model computes with a copy that may be rounded.

Matrices of one shape live in one tensor [n, rows, columns], of which the model's parameters are slices. Gradients taken at the rounded weights
are applied to the true ones (straight-through). Matrices: Muon (momentum, orthogonalised by Newton-Schulz iterations). Embedding and norms: Adam.
"""

import math
from collections import defaultdict

import torch

import config
import quantise


def orthogonalise(g):
    """About U V^T of g's singular value decomposition, batched, in bfloat16."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


def muon_step(master, momentum, grad, lr):
    momentum.lerp_(grad, 1 - config.MOMENTUM)
    update = orthogonalise(grad.lerp(momentum, config.MOMENTUM))
    shape_factor = math.sqrt(max(1.0, master.shape[-2] / master.shape[-1]))
    master.mul_(1 - lr * config.WEIGHT_DECAY).sub_(update * (lr * shape_factor))


class Optimiser:
    def __init__(self, model):
        self.groups = []  # (parameters, live [n, r, c], master, momentum)
        by_shape = defaultdict(list)
        norms = []
        self.embedding = model.model.embed_tokens.weight
        for name, p in model.named_parameters():
            if p is self.embedding:
                continue
            if quantise.is_matrix(name):
                by_shape[tuple(p.shape)].append(p)
            else:
                norms.append(p)
        for parameters in by_shape.values():
            live = torch.stack([p.detach() for p in parameters])
            for i, p in enumerate(parameters):
                p.data = live[i]
            self.groups.append((parameters, live, live.clone(), torch.zeros_like(live)))
        self.embedding_master = torch.nn.Parameter(self.embedding.detach().clone())
        self.adam = torch.optim.AdamW(
            [self.embedding_master] + norms,
            lr=config.ADAM_LR,
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=self.embedding.is_cuda,
        )

    @torch.no_grad()
    def show(self, weight_format):
        """Gives the model its weights, rounded to a format, or as they are ("")."""
        change = quantise.FORMATS.get(weight_format, lambda w: w)
        for _, live, master, _ in self.groups:
            live.copy_(change(master))
        self.embedding.data.copy_(change(self.embedding_master.detach()))

    @torch.no_grad()
    def step(self, scale):
        """One update; `scale` is the schedule's share of the full learning rates."""
        lr = config.MUON_LR * scale
        for parameters, _, master, momentum in self.groups:
            grad = torch.stack([p.grad for p in parameters]).float()
            muon_step(master, momentum, grad, lr)
            for p in parameters:
                p.grad = None
        self.embedding_master.grad = self.embedding.grad.float()
        self.embedding.grad = None
        for group in self.adam.param_groups:
            group["lr"] = config.ADAM_LR * scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
