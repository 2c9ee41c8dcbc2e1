"""Make one shipped model from nothing: tokenizer and rows, training, export, check, evaluation, README.

    python data/make/make.py tiny-gqa
    python data/make/make.py tiny-mla

A run that was interrupted goes on from its last checkpoint in the work folder.
"""

import argparse
import pathlib

import torch

from describe import describe
from evaluate import evaluate
from export import export
from prepare import prepare
from recipe import MODELS
from train import train

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/models"), help="rows, checkpoints, logs")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"), help="where the model directory goes")
    parser.add_argument("--steps", type=int, help="default: as in recipe.py; fewer for a quick look")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prepare(arguments.work)
    train(arguments.model, arguments.work, arguments.steps or MODELS[arguments.model].steps)
    export(arguments.model, arguments.work, arguments.data)
    evaluate(arguments.model, arguments.work, arguments.data)
    describe(arguments.model, arguments.data)
