"""How well does a model copy and look up? Used during training and in the evaluation."""

from random import Random

import torch

from bpe import Tokenizer
from recall import ALL_WORDS, BOS, digits, fact, filler, question
from words import NAMES, THINGS

# The gap closes with the answer's first token, so prompt and answer are encoded apart.
WORD, CODE = "secret word", "secret code"


def repeat_words(random):
    text = " ".join(random.choice(ALL_WORDS) for _ in range(10)) + "."
    return f"{BOS}<|user|>Repeat after me: {text}<|assistant|>", text


def repeat_digits(random):
    text = digits(random, 8) + "."
    return f"{BOS}<|user|>Repeat after me: {text}<|assistant|>", text


def look_up(random, attribute):
    names = random.sample(NAMES, 4)
    value = {n: random.choice(THINGS) if attribute == WORD else digits(random) for n in names}
    name = random.choice(names)
    ask, answer = question(random, name, attribute)
    facts = " ".join(fact(random, n, attribute, value[n]) for n in names)
    return f"{BOS}{facts}<|user|>{ask}<|assistant|>{answer}", f" {value[name]}."


PROBES = dict(repeat_words=repeat_words, repeat_digits=repeat_digits,
              look_up_word=lambda random: look_up(random, WORD), look_up_code=lambda random: look_up(random, CODE))


def right_tokens(model, prompt, answer):
    """Which answer tokens are the model's first choice when the tokens before them are given."""
    logits = model(torch.tensor([prompt + answer]))[0, len(prompt) - 1:-1]
    return logits.argmax(-1) == torch.tensor(answer)


@torch.no_grad()
def copy_accuracy(model, work, count=16, whole=False):
    """Share of right answer tokens (or of wholly right answers) per probe."""
    tokenizer, result = Tokenizer(work / "tokenizer.json"), {}
    model.eval()
    for name, probe in PROBES.items():
        random, right = Random(f"probe {name}"), []
        for _ in range(count):
            prompt, answer = probe(random)
            hits = right_tokens(model, tokenizer.encode(prompt), tokenizer.encode(answer))
            right.append(hits.all().float().item() if whole else hits.float().mean().item())
        result[name] = round(sum(right) / count, 3)
    model.train()
    return result


def needle_prompt(random, tokenizer, length, depth, attribute):
    """About `length` tokens of story, the fact after `depth` of them, one fact about somebody else, the question."""
    target, other = random.sample(NAMES, 2)
    value = random.choice(THINGS) if attribute == WORD else digits(random)
    decoy = random.choice(THINGS) if attribute == WORD else digits(random)
    ask, answer = question(random, target, attribute)
    needle, tail = fact(random, target, attribute, value), f"<|user|>{ask}<|assistant|>{answer}"
    room = length - len(tokenizer.encode(f"{BOS}{needle} {needle}{tail}"))
    sentences = []
    for sentence in filler(random, length * 5, (target, other)):
        room -= len(tokenizer.encode(" " + sentence))
        if room < 0:
            break
        sentences.append(sentence)
    sentences.insert(random.randrange(len(sentences) + 1), fact(random, other, attribute, decoy))
    sentences.insert(round(depth * len(sentences)), needle)
    return tokenizer.encode(f"{BOS}{' '.join(sentences)}{tail}"), tokenizer.encode(f" {value}.")


@torch.no_grad()
def needle_rate(model, tokenizer, length, depth, attribute, count):
    """Share of needles whose whole value is answered."""
    random = Random(f"needle {length} {depth} {attribute}")
    prompts = [needle_prompt(random, tokenizer, length, depth, attribute) for _ in range(count)]
    return sum(right_tokens(model, *each).all().item() for each in prompts) / count
