"""Check an exported directory with Hugging Face transformers: same logits, same greedy text, same token ids.

    python data/make/verify.py tiny-gqa --data data
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bpe import Tokenizer
from train import build_model

TOLERANCE = 1e-4
PROMPTS = ("<|bos|>Once upon a time",
           "<|bos|><|user|>Tell me a story about a fox named Tom.<|assistant|>",
           "<|bos|>The secret code of Tom is 481. The secret code of Mia is 302.<|user|>What is the secret code of Tom?"
           "<|assistant|>")


def load_exported(directory):
    """Our model with the shipped weights, widened to f32."""
    model = build_model(json.loads((directory / "config.json").read_text()))
    shipped = load_file(directory / "model.safetensors")
    own = model.hugging_face_state()
    if own.keys() != shipped.keys():
        raise SystemExit(f"verify: names differ: {sorted(own.keys() ^ shipped.keys())[:5]}")
    with torch.no_grad():
        for name, value in own.items():      # state values share memory with the model
            value.copy_(shipped[name])
    return model.eval()


@torch.no_grad()
def greedy(model, ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids


@torch.no_grad()
def verify(directory, new_tokens=60):
    """The largest difference of logits; raises when the two implementations disagree."""
    ours, tokenizer = load_exported(directory), Tokenizer(directory / "tokenizer.json")
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    reference.generation_config.eos_token_id = None          # go on after <|eos|>, as greedy() does
    reference_tokenizer = AutoTokenizer.from_pretrained(directory)
    chat = reference_tokenizer.apply_chat_template([dict(role="user", content="Hi!")], add_generation_prompt=True,
                                                   tokenize=False)
    if chat != "<|bos|><|user|>Hi!<|assistant|>":
        raise SystemExit(f"verify: the chat template gives {chat!r}")
    largest = 0.0
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt)
        if ids != reference_tokenizer.encode(prompt, add_special_tokens=False):
            raise SystemExit(f"verify: token ids differ on {prompt!r}")
        text = greedy(ours, ids, new_tokens)
        theirs = reference.generate(torch.tensor([ids]), max_new_tokens=new_tokens, do_sample=False)[0].tolist()
        if text != theirs:
            raise SystemExit(f"verify: greedy texts differ after {prompt!r}:\n{tokenizer.decode(text)}\n"
                             f"{tokenizer.decode(theirs)}")
        difference = (ours(torch.tensor([text])) - reference(torch.tensor([text])).logits).abs().max().item()
        largest = max(largest, difference)
        print(f"verify: {prompt[-40:]!r}: greedy text equal, logits differ by at most {difference:.1e}")
    if largest > TOLERANCE:
        raise SystemExit(f"verify: logits differ by {largest:.1e}, allowed are {TOLERANCE:.0e}")
    return largest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
    arguments = parser.parse_args()
    verify(arguments.data / arguments.model)
