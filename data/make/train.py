"""Train one model on the prepared rows.

    python data/make/train.py tiny-gqa --work build/models

Everything depends on the step number only: rows, learning rate, phase. A run that was stopped and resumed from its
checkpoint is the same run. `--steps` may be changed on resuming; the rate then falls to its end at the new number.
"""

import argparse
import json
import os
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from gqa_model import GqaModel
from hint import hint_gqa, hint_mla
from layers import inverse_frequencies
from mla_model import MlaModel
from muon import Muon
from recall_probe import copy_accuracy
from recipe import MODELS, PHASES, VALIDATION_KINDS


def build_model(config):
    return GqaModel(config) if config["model_type"] == "llama" else MlaModel(config)


def give_hint(model):
    config = model.config
    if config["model_type"] == "llama":
        hint_gqa(model, inverse_frequencies(config["head_dim"], config["rope_theta"]))
    else:
        hint_mla(model, inverse_frequencies(config["qk_rope_head_dim"], config["rope_theta"]))


def phase_at(step, steps):
    end = 0.0
    for phase in PHASES:
        end += phase.share
        if step < end * steps:
            return phase
    return PHASES[-1]


def rate_at(step, steps, recipe):
    """Factor of the learning rates: a short warm-up, constant, then linear to the final share."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    done = max(0.0, step / steps - recipe.constant_share) / (1 - recipe.constant_share)
    return warm * (1 - (1 - recipe.final_share) * done)


def make_optimisers(model, recipe):
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and routers."""
    inside = [p for n, p in model.named_parameters() if p.dim() >= 2 and n.startswith("layers") and not n.endswith(".gate")]
    outside = [p for p in model.parameters() if all(p is not q for q in inside)]
    adam = torch.optim.AdamW([dict(params=[p for p in outside if p.dim() >= 2], weight_decay=recipe.weight_decay),
                              dict(params=[p for p in outside if p.dim() < 2], weight_decay=0.0)],
                             lr=recipe.adam_rate, betas=(0.9, 0.95))
    return [adam, Muon(inside, lr=recipe.muon_rate, weight_decay=recipe.weight_decay)]


def draw_batch(rows, phase, step, recipe):
    """Rows of this step, the same whenever the step is taken: (B, T+1)."""
    picks = np.random.default_rng([recipe.seed, step]).integers(len(rows), size=recipe.tokens_per_step // phase.length)
    return torch.from_numpy(rows[np.sort(picks)].astype(np.int64))


def loss_of(model, ids):
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def validate(model, work):
    model.eval()
    losses = {}
    for kind in VALIDATION_KINDS:
        rows = np.load(work / f"validation-{kind}.npy")[:8].astype(np.int64)
        losses[kind] = round(loss_of(model, torch.from_numpy(rows)).item(), 4)
    model.train()
    return losses


def save_atomically(state, path):
    torch.save(state, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def train(name, work, steps):
    recipe = MODELS[name]
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.config)
    give_hint(model)
    optimisers = make_optimisers(model, recipe)
    base_rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    rows = {phase.name: np.load(work / f"{phase.name}.npy", mmap_mode="r") for phase in PHASES}
    checkpoint, log = work / f"{name}.pt", open(work / f"{name}.jsonl", "a", encoding="utf-8")
    first, cpu_before = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False)
        first, cpu_before = state["step"], state["cpu_seconds"]
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
    print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters, steps {first} to {steps}", flush=True)

    cpu_start, smooth = time.process_time() - cpu_before, None
    model.train()
    for step in range(first, steps):
        phase, factor = phase_at(step, steps), rate_at(step, steps, recipe)
        if recipe.config["model_type"] == "deepseek_v3":     # the context is stretched in the last phase
            model.scaling = recipe.config["rope_scaling"] if phase is PHASES[-1] else None
        for optimiser, rates in zip(optimisers, base_rates):
            for group, rate in zip(optimiser.param_groups, rates):
                group["lr"] = rate * factor
        loss = loss_of(model, draw_batch(rows[phase.name], phase, step, recipe))
        balance = sum(mixture.balance_loss for mixture in model.mixtures())
        (loss + recipe.balance_weight * balance).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        excess = [mixture.balance(recipe.bias_rate * factor) for mixture in model.mixtures()]

        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
        last = step + 1 == steps
        if step % 20 == 0 or last:
            note = dict(step=step + 1, phase=phase.name, loss=round(smooth, 4), norm=round(norm.item(), 3),
                        tokens=(step + 1) * recipe.tokens_per_step, cpu_seconds=round(time.process_time() - cpu_start))
            if excess:
                note["largest_excess"] = round(max(excess), 2)
            if (step + 1) % 100 == 1 or last:
                note["validation"] = validate(model, work)
                note["copying"] = copy_accuracy(model, work)
            print(json.dumps(note), file=log, flush=True)
        if (step + 1) % 50 == 0 or last:
            save_atomically(dict(step=step + 1, steps=steps, cpu_seconds=time.process_time() - cpu_start,
                                 model=model.state_dict(), optimisers=[o.state_dict() for o in optimisers]), checkpoint)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/models"))
    parser.add_argument("--steps", type=int, help="default: as in the recipe")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.model, arguments.work, arguments.steps or MODELS[arguments.model].steps)
