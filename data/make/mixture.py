"""DeepSeek-V3's mixture of experts: one shared expert, many small routed ones, a bias that balances the load."""

import torch
import torch.nn.functional as F
from torch import nn

from layers import SwiGLU


class Mixture(nn.Module):
    """x (B,T,M) -> (B,T,M). The routed experts' weights are stacked, so that the optimiser sees one tensor each."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        experts, hidden, inner = config["n_routed_experts"], config["hidden_size"], config["moe_intermediate_size"]
        self.gate = nn.Parameter(torch.empty(experts, hidden))
        self.register_buffer("bias", torch.zeros(experts))                        # e_score_correction_bias
        self.expert_gate = nn.Parameter(torch.empty(experts, inner, hidden))
        self.expert_up = nn.Parameter(torch.empty(experts, inner, hidden))
        self.expert_down = nn.Parameter(torch.empty(experts, hidden, inner))
        self.shared_experts = SwiGLU(hidden, inner * config["n_shared_experts"])
        self.register_buffer("load", torch.zeros(experts), persistent=False)      # choices since the last balance()
        self.balance_loss = 0.0

    def route(self, x):
        """x (N,M) -> the experts chosen (N,K), their weights (N,K), all scores (N,E)."""
        config = self.config
        scores = F.linear(x, self.gate).sigmoid()
        # The bias takes part in the choice only; the weights come from the scores themselves.
        choice = scores.detach() + self.bias
        groups = choice.unflatten(-1, (config["n_group"], -1))
        best_groups = groups.topk(2, -1)[0].sum(-1).topk(config["topk_group"], -1)[1]
        allowed = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter_(1, best_groups, True)
        chosen = groups.masked_fill(~allowed[..., None], float("-inf")).flatten(1).topk(config["num_experts_per_tok"], -1)[1]
        weights = scores.gather(1, chosen)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * config["routed_scaling_factor"]
        return chosen, weights, scores

    def forward(self, x):
        rows = x.flatten(0, 1)
        chosen, weights, scores = self.route(rows)
        by_expert = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=len(self.gate))
        row_of = by_expert // chosen.shape[1]
        parts = [F.linear(F.silu(F.linear(part, gate)) * F.linear(part, up), down) for part, gate, up, down in
                 zip(rows[row_of].split(counts.tolist()), self.expert_gate, self.expert_up, self.expert_down)]
        routed = torch.zeros_like(rows).index_add(0, row_of, torch.cat(parts) * weights.flatten()[by_expert, None])
        if self.training:
            self.load += counts
            self.balance_loss = self.sequence_balance_loss(chosen, scores, *x.shape[:2])
        return routed.view_as(x) + self.shared_experts(x)

    def sequence_balance_loss(self, chosen, scores, batch, tokens):
        """DeepSeek-V3's complementary loss (arXiv:2412.19437, eq. 17-20): even load within each sequence."""
        experts, picks = len(self.gate), chosen.shape[1]
        share = (scores / scores.sum(-1, keepdim=True)).view(batch, tokens, experts).mean(1)
        load = torch.zeros(batch, experts).scatter_add_(1, chosen.view(batch, -1), torch.ones(batch, tokens * picks))
        return (load * experts / (picks * tokens) * share).sum(-1).mean()

    @torch.no_grad()
    def balance(self, rate):
        """Make crowded experts less attractive, idle ones more; returns the largest excess over the mean load."""
        self.bias += rate * torch.sign(self.load.mean() - self.load)
        excess = (self.load.max() / self.load.mean() - 1).item()
        self.load.zero_()
        return excess
