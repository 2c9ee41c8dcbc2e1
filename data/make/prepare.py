"""Train the tokenizer and write the training rows, once for both models.

    python data/make/prepare.py --work build/models

Rows are arrays (rows, length + 1) of token ids: documents one after the other, cut at the end of the row.
One array per phase of the recipe (recipe.PHASES), because a phase has its own row length and mixture.
"""

import argparse
import json
import pathlib
from random import Random

import numpy as np

import corpus
from bpe import SPECIAL, Tokenizer, learn_merges, tokenizer_json
from habitual import Habitual
from recipe import PHASES, VALIDATION_KINDS, VALIDATION_LENGTH, VALIDATION_ROWS, VOCABULARY

TOKENIZER_DOCUMENTS = 6000
TOKENIZER_MIXTURE = dict(story=3, chat=3, needle=1, list=0.5, copy=0.2)
# The grammar has few words; a page of prose fills the tail of the vocabulary with everyday ones.
PROSE = pathlib.Path(__file__).with_name("prose.txt")


def train_tokenizer(path):
    random = Random(0)
    texts = [corpus.document(random, corpus.draw_kind(random, TOKENIZER_MIXTURE), 500)
             for _ in range(TOKENIZER_DOCUMENTS)]
    texts.append(PROSE.read_text(encoding="utf-8"))
    merges = learn_merges(texts, VOCABULARY - 256 - len(SPECIAL))
    path.write_text(json.dumps(tokenizer_json(merges), ensure_ascii=False, indent=1), encoding="utf-8")


def check_tokenizer(path):
    """Our encoder and the `tokenizers` library agree, on the corpus and on text it was not made for."""
    from tokenizers import Tokenizer as Reference
    ours, reference = Tokenizer(path), Reference.from_file(str(path))
    random = Random(1)
    samples = [corpus.document(random, corpus.draw_kind(random, TOKENIZER_MIXTURE), 400) for _ in range(300)]
    samples += ["", " ", "  two  spaces ", "tabs\tand\r\n\r\nlines \n", "It's 12345 o'clock, DON'T!",
                "naïve café – 東京 🙂", "x = f(a[0], {'k': 1});",
                "<|user|> <|nothing|> <|bos|><|bos|>", "\u00a0no-break\u2003em", "e\u0301"]
    for text in samples:
        ids = ours.encode(text)
        if ids != reference.encode(text, add_special_tokens=False).ids or ours.decode(ids) != text:
            raise SystemExit(f"check_tokenizer: the encoders differ on {text!r}")
    print(f"tokenizer: {len(ours.id_of)} tokens, equal to the tokenizers library on {len(samples)} texts")


def teller(random, kind, habits):
    """Who tells the document: in a share `habits` of the stories and chats, somebody with habits."""
    if habits and kind in ("story", "chat") and random.random() < habits:
        return Habitual(random.getrandbits(64))
    return random


def packed_row(tokenizer, random, mixture, length, habits=0.0):
    ids = []
    while len(ids) <= length:
        room = length - len(ids)
        fitting = {kind: weight for kind, weight in mixture.items() if kind != "needle" or room > 0.5 * length}
        kind = corpus.draw_kind(random, fitting or mixture)
        ids += tokenizer.encode(corpus.document(teller(random, kind, habits), kind, room))
    return ids[:length + 1]


def write_rows(path, tokenizer, seed, mixture, length, rows, habits=0.0):
    if path.exists():
        return
    random = Random(seed)
    packed = [packed_row(tokenizer, random, mixture, length, habits) for _ in range(rows)]
    np.save(path, np.array(packed, dtype=np.uint16))
    print(f"{path.name}: {rows} rows of {length} tokens", flush=True)


def prepare(work):
    work.mkdir(parents=True, exist_ok=True)
    path = work / "tokenizer.json"
    if not path.exists():
        train_tokenizer(path)
        check_tokenizer(path)
    tokenizer = Tokenizer(path)
    for kind in VALIDATION_KINDS:
        write_rows(work / f"validation-{kind}.npy", tokenizer, f"validation {kind}", {kind: 1}, VALIDATION_LENGTH,
                   VALIDATION_ROWS)
    for phase in PHASES:
        write_rows(work / f"{phase.name}.npy", tokenizer, f"training {phase.name}", phase.mixture, phase.length,
                   phase.rows, phase.habits)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/models"))
    prepare(parser.parse_args().work)
