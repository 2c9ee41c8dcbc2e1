"""Texts that no model was trained on, one file per kind: for `kvbook experts` and for losses in the book.
stream.txt is a long one of all kinds, hay.txt has stories without any markers, to hide a needle in (`kvbook needle`).

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
STREAM_CHARACTERS = 207000     # more than 50,000 tokens


def text(kind):
    random = Random(f"held out {kind}")
    result = ""
    while len(result) < CHARACTERS:
        result += document(random, kind, room=1000)
    return result


def stream():
    """Documents of all kinds, one behind the other: a text that is longer than any context."""
    random = Random("held out stream")
    result = ""
    while len(result) < STREAM_CHARACTERS:
        result += document(random, random.choice(KINDS), room=1000)
    return result


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / f"{kind}.txt").write_text(text(kind))
    hay = filler(Random("held out hay"), 4 * CHARACTERS, (NEEDLE_NAME,))
    (folder / "hay.txt").write_text(" ".join(hay) + "\n")
    (folder / "stream.txt").write_text(stream())
