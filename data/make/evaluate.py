"""Measure an exported model and write evaluation.json beside it; describe.py turns that into the README.

    python data/make/evaluate.py tiny-gqa --work build/models --data data

All numbers are those of the shipped bf16 weights, widened to f32, on one CPU thread.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from bpe import EOS, Tokenizer
from recall_probe import CODE, WORD, copy_accuracy, needle_rate
from recipe import MODELS, PHASES, VALIDATION_KINDS
from routing_report import report_mixture
from verify import load_exported, verify

PROMPTS = (
    "<|bos|>Once upon a time",
    "<|bos|>There once was a brave fox",
    "<|bos|>Not far from the lake",
    "<|bos|><|user|>Tell me a story about Lily and a kite.<|assistant|>",
    "<|bos|><|user|>Tell me a story about a fox named Tom.<|assistant|>",
    "<|bos|><|user|>Hello, my name is Ben.<|assistant|>Nice to meet you, Ben.<|eos|>"
    "<|user|>What is 4 plus 3?<|assistant|>4 plus 3 is 7.<|eos|><|user|>What is my name?<|assistant|>",
    "<|bos|>Lily: kite\nTom: drum\nMia: bell\nSam: boat\n<|user|>Mia?<|assistant|>",
    "<|bos|>The favorite color of Tom is green. The favorite color of Ella is pink.<|user|>"
    "What is the favorite color of Tom?<|assistant|>",
)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
NEEDLES_PER_CELL = 20
NEW_TOKENS = 200


@torch.no_grad()
def validation_losses(model, work):
    """Mean cross-entropy in nats per token, per kind of document."""
    losses = {}
    for kind in VALIDATION_KINDS:
        rows = torch.from_numpy(np.load(work / f"validation-{kind}.npy").astype(np.int64))
        parts = [F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten()) for part in rows.split(8)]
        losses[kind] = round((sum(parts) / len(parts)).item(), 4)
    return losses


@torch.no_grad()
def greedy_run(model, ids, count):
    """The greedy continuation up to <|eos|> and, for each of its tokens, the lead of the best logit over the second."""
    ids, leads = list(ids), []
    while len(leads) < count:
        best = model(torch.tensor([ids]))[0, -1].topk(2)
        leads.append((best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
        if ids[-1] == EOS:
            break
    return ids, leads


def greedy_runs(model, tokenizer):
    runs, leads = [], []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt)
        text, lead = greedy_run(model, ids, NEW_TOKENS)
        runs.append(dict(prompt=prompt, continuation=tokenizer.decode(text[len(ids):]), new_tokens=len(lead),
                         smallest_lead=round(min(lead), 5)))
        leads += lead
    quantiles = np.quantile(leads, [0.01, 0.05, 0.5])
    margins = dict(tokens=len(leads), smallest=round(min(leads), 5), below_0_01=sum(lead < 0.01 for lead in leads),
                   percentile_1=round(quantiles[0], 4), percentile_5=round(quantiles[1], 4),
                   median=round(quantiles[2], 3))
    return runs, margins


def needle_grid(model, tokenizer, lengths, attributes=(WORD, CODE)):
    """{attribute: {length: {depth: rate}}}"""
    return {attribute: {length: {depth: needle_rate(model, tokenizer, length, depth, attribute, NEEDLES_PER_CELL)
                                 for depth in DEPTHS} for length in lengths}
            for attribute in attributes}


def routing(model, work):
    rows = {kind: torch.from_numpy(np.load(work / f"validation-{kind}.npy")[:8, :-1].astype(np.int64))
            for kind in VALIDATION_KINDS}
    return [report_mixture(model, mixture, rows) for mixture in model.mixtures()]


def file_sizes(directory):
    """Bytes of the files that make the model, without what is written about it."""
    return {path.name: path.stat().st_size for path in sorted(directory.iterdir())
            if path.suffix in (".json", ".safetensors") and path.name != "evaluation.json"}


def steps_per_phase(notes):
    """How many steps each phase had, as the log tells it: the recipe's shares move when --steps is changed."""
    phase_of = dict(sorted((note["step"], note["phase"]) for note in notes))
    first_steps = [*phase_of, max(phase_of) + 1]
    steps = {phase.name: 0 for phase in PHASES}
    for first, following in zip(first_steps, first_steps[1:]):
        steps[phase_of[first]] += following - first
    return {phase.name: dict(length=phase.length, steps=steps[phase.name]) for phase in PHASES}


def training_summary(name, work):
    state = torch.load(work / f"{name}.pt", weights_only=False)
    notes = [json.loads(line) for line in (work / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return dict(steps=state["step"], planned_steps=state["steps"], tokens=state["step"] * MODELS[name].tokens_per_step,
                cpu_seconds=round(state["cpu_seconds"]), final_smoothed_loss=notes[-1]["loss"],
                phases=steps_per_phase(notes))


def evaluate(name, work, data):
    directory = data / name
    difference = verify(directory)
    model, tokenizer = load_exported(directory), Tokenizer(directory / "tokenizer.json")
    runs, margins = greedy_runs(model, tokenizer)
    stretched = model.config["model_type"] == "deepseek_v3"
    lengths = (128, 256, 512, 768, 1024) + ((1536, 2048) if stretched else ())
    result = dict(
        model=name, parameters=sum(p.numel() for p in model.parameters()), bytes=file_sizes(directory),
        training=training_summary(name, work),
        largest_logit_difference_to_transformers=float(f"{difference:.1e}"),
        validation_loss=validation_losses(model, work),
        whole_answers_right=copy_accuracy(model, work, count=100, whole=True),
        needles_per_cell=NEEDLES_PER_CELL, needles=needle_grid(model.eval(), tokenizer, lengths),
        greedy_margins=margins, greedy_runs=runs)
    if stretched:
        result["routing"] = routing(model, work)
        model.scaling = None
        result["needles_without_yarn"] = needle_grid(model, tokenizer, lengths, (WORD,))
    report = directory / "evaluation.json"
    report.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"evaluate: wrote {report}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/models"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    evaluate(arguments.model, arguments.work, arguments.data)
