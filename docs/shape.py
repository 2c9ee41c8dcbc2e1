#!/usr/bin/env python3
"""docs/shape.py: every chapter has the same parts. docs/check calls it.

A part is a heading whose anchor ends with its name, whatever words it has: "## The roofline first {#ch06-cost}". It begins
with the idea and ends with its letters and references, and no part is empty."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARTS = ("idea", "example", "formula", "delta", "cost", "measured", "traps", "try", "letters", "references")
HEADING = re.compile(r"^(#+) .*\{#([\w-]+)\}$", re.M)
# What a part must have beside words. Measured numbers come out of files.
CONTENTS = {"example": (r"\d", "a number"), "formula": (r"\\f[\[$]", "a formula"), "cost": (r"\\f[\[$]|^\|", "a formula or a table"),
            "measured": (r"@include|@verbinclude|@image", "a file of docs/measured"), "try": (r"^1\. ", "an exercise")}


def parts(text):
    """Of each anchor the text up to the next heading of its level or of one above."""
    heads = list(HEADING.finditer(text))
    for place, head in enumerate(heads):
        end = next((other.start() for other in heads[place + 1:] if len(other[1]) <= len(head[1])), len(text))
        yield head[2], text[head.end():end].strip()


def findings(chapters):
    for chapter in chapters:
        text, name = re.sub(r"^```.*?^```", "", chapter.read_text(), flags=re.S | re.M), chapter.relative_to(ROOT)
        page = re.match(r"# .*\{#(\w+)\}", text)[1]
        found = {anchor.removeprefix(f"{page}-"): body for anchor, body in parts(text) if anchor.startswith(f"{page}-")}
        yield from (f"{name}: has no part '{part}', a heading with {{#{page}-{part}}}" for part in PARTS if part not in found)
        names = [part for part in found if part in PARTS]
        if names and (names[0] != "idea" or names[-2:] != ["letters", "references"]):
            yield f"{name}: begins with '{names[0]}' and ends with '{names[-1]}': the idea is first, letters and references are last"
        for part, (pattern, what) in CONTENTS.items():
            if part in found and not re.search(pattern, found[part], re.M):
                yield f"{name}: the part '{part}' has no {what.split(' ', 1)[1]}"
        yield from (f"{name}: the part '{part}' is empty" for part in names if len(found[part].split()) < 15)


if __name__ == "__main__":
    lines = list(findings(sorted(ROOT.glob("chapters/**/chapter.md"))))
    print("\n".join(lines) if lines else "docs/shape.py: nothing found")
    sys.exit(1 if lines else 0)
