#!/usr/bin/env python3
"""docs/transcripts.py [--write]: pages that are read as plain Markdown too hold their transcripts themselves.

After "<!-- docs/measured/NAME.txt -->" stands a fenced block with what is in that file. With --write the blocks are made
anew, as docs/measure/run does; without it, a line for each that differs, which docs/check prints too."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- (docs/measured/\w+\.txt) -->\n```\n(.*?)```\n", re.S)
PAGES = ["docs/commands.md"]


def content(file):
    return (ROOT / file).read_text().rstrip("\n") + "\n"


def findings():
    for page in PAGES:
        for file, block in BLOCK.findall((ROOT / page).read_text()):
            if block != content(file):
                yield f"{page}: the transcript of {file} is another than the file: docs/transcripts.py --write"


def write():
    for page in PAGES:
        path = ROOT / page
        path.write_text(BLOCK.sub(lambda block: f"<!-- {block[1]} -->\n```\n{content(block[1])}```\n", path.read_text()))


if __name__ == "__main__":
    write() if sys.argv[1:] == ["--write"] else print("\n".join(findings()) or "docs/transcripts.py: nothing found")
