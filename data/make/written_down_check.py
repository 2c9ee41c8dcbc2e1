"""Do the models that were written down find a needle? Asked with Hugging Face transformers, in f32.

    python data/make/written_down_check.py data

Each text is letters and blanks, somewhere in it "#" and five digits, at its end "#": the model must
go on with the digits.
"""

import argparse
import pathlib
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LENGTHS, DEPTHS = (64, 512, 2048, 4096), (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def prompt(random, length, depth):
    """Begin token, text and answer are `length` tokens."""
    answer = "".join(random.sample("0123456789", 5))
    letters = "abcdefghijklmnopqrstuvwxyz    "
    hay = "".join(random.choice(letters) for _ in range(length - 13))
    at = round(depth * len(hay))
    return f"{hay[:at]}#{answer}{hay[at:]}#", answer


@torch.no_grad()
def answers(model, tokenizer, text, answer):
    ids = tokenizer(text, return_tensors="pt").input_ids
    found = model.generate(ids, max_new_tokens=len(answer), do_sample=False)[0, ids.shape[1]:]
    return tokenizer.decode(found) == answer


def check(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    for length in LENGTHS:
        random = Random(f"{directory.name} {length}")
        lost = [depth for depth in DEPTHS
                if not answers(model, tokenizer, *prompt(random, length, depth))]
        if lost:
            raise SystemExit(f"{directory.name}: {length} tokens, not found at depths {lost}")
        print(f"{directory.name}: {length} tokens, found at all {len(DEPTHS)} depths", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    folder = parser.parse_args().data
    check(folder / "needle")
    check(folder / "needle-mla")
