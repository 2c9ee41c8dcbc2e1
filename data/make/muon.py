"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

All directions of a weight learn at the same speed, which a small model needs to grow retrieval heads early.
For matrices inside the layers; embeddings, norms and the router stay with AdamW.
"""

import torch


def orthogonalise(matrices):
    """Five Newton-Schulz steps pull the singular values of each (..., R, C) towards 1."""
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr, weight_decay, momentum=0.95):
        super().__init__(parameters, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            rate, keep = group["lr"], group["momentum"]
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - keep)
                nesterov = parameter.grad.lerp(average, keep)
                gain = max(1, parameter.shape[-2] / parameter.shape[-1]) ** 0.5
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(orthogonalise(nesterov), alpha=-rate * gain)
