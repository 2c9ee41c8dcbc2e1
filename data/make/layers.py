"""The parts both models share: normalisation, SwiGLU, causal attention, and how weights start."""

import torch
import torch.nn.functional as F
from torch import nn


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class RMSNorm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class SwiGLU(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj = linear(hidden, inner)
        self.up_proj = linear(hidden, inner)
        self.down_proj = linear(inner, hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def causal_attention(queries, keys, values, scale):
    """(B,T,H,D) -> (B,T,H*D)."""
    heads_first = (t.transpose(1, 2) for t in (queries, keys, values))
    mixed = F.scaled_dot_product_attention(*heads_first, is_causal=True, scale=scale)
    return mixed.transpose(1, 2).flatten(2)


def inverse_frequencies(dimension, theta):
    return theta ** (-torch.arange(0, dimension, 2, dtype=torch.float64) / dimension)


def rotation_table(frequencies, length):
    """cos and sin, each (T, D/2), computed in double precision."""
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    return angles.cos().float(), angles.sin().float()


def initialise(model, layers, hidden):
    """Normal weights; what writes into the residual stream starts smaller, the deeper the model the smaller."""
    deviation = 0.03 * (256 / hidden) ** 0.5
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            nn.init.normal_(parameter, 0, deviation)
            if name.endswith(("o_proj.weight", "down_proj.weight", "expert_down")):
                parameter.data *= (2 * layers) ** -0.5
