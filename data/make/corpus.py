"""The training text: an endless mixture of stories, chats and recall puzzles, drawn from a seed.

Nothing is downloaded: the grammar in this folder is the whole corpus, so its licence is the project's own
(CC0) and anyone can draw the same documents again.
"""

from recall import BOS, EOS, copy_document, echo_document, list_document, needle_document
from chat import chat_document
from stories import story

CHARACTERS_PER_TOKEN = 3.6     # measured on this corpus; only used to guess how long a needle document gets


def document(random, kind, room):
    """One document as text with its special tokens written out; `room` is the space left, in tokens."""
    if kind == "story":
        return BOS + " ".join(story(random)[0]) + EOS
    if kind == "chat":
        return chat_document(random)
    if kind == "list":
        return list_document(random)
    if kind == "copy":
        return copy_document(random)
    if kind == "echo":
        return echo_document(random)
    if kind == "needle":
        return needle_document(random, size=random.uniform(0.1, 1.0) * max(room - 160, 60) * CHARACTERS_PER_TOKEN)
    raise ValueError(f"document: unknown kind '{kind}'")


def draw_kind(random, mixture):
    return random.choices(list(mixture), weights=mixture.values())[0]


if __name__ == "__main__":
    from random import Random
    for kind in ("story", "chat", "needle", "list", "copy", "echo"):
        print(f"==== {kind}\n{document(Random(7), kind, room=400)}\n")
