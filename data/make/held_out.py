"""Texts that no model was trained on, one file per kind: for `kvbook experts` and for losses in the book.
And hay.txt, stories without any markers, to hide a needle in (`kvbook needle`).

    python data/make/held_out.py data/held_out

Drawn from a seed that training and validation do not use. The grammar is the same, so this is the easy kind of unseen.
"""

import pathlib
import sys
from random import Random

from corpus import document
from recall import filler

KINDS = ("story", "chat", "needle", "list", "copy")
CHARACTERS = 4000     # about 1100 tokens
NEEDLE_NAME = "Kate"  # the models' needle.json are about her: nobody in the hay may have her name


def text(kind):
    random = Random(f"held out {kind}")
    result = ""
    while len(result) < CHARACTERS:
        result += document(random, kind, room=1000)
    return result


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / f"{kind}.txt").write_text(text(kind))
    hay = filler(Random("held out hay"), 4 * CHARACTERS, (NEEDLE_NAME,))
    (folder / "hay.txt").write_text(" ".join(hay) + "\n")
