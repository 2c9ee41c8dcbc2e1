#!/usr/bin/env python3
"""docs/letters.py: the letters of the book's formulas. docs/check calls it.

Every page with formulas has a section {#NAME-letters} with a table: letter, meaning, shape or unit. One line for each letter
that a page uses, in a formula or in a shape, and does not explain, or explains and does not use, and for each that means something
else on another page."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FORMULA = re.compile(r"\\f\$(.*?)\\f\$|\\f\[(.*?)\\f\]", re.S)
ROW = re.compile(r"^\| \\f\$(.+?)\\f\$ \| (.+?) \| (.+?) \|$", re.M)
TABLE = re.compile(r"^#+ .*\{#(\w+)-letters\}\n(.*?)(?=^#|\Z)", re.S | re.M)
GREEK = "alpha beta gamma delta epsilon eta theta lambda mu nu xi rho sigma tau omega ell".split()
STYLES = ("mathcal", "mathbf", "hat")       # with what follows they are one letter
WORDS = ("text", "mathrm", "operatorname")  # what follows is no letter
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.S)


def argument(tokens, start):
    """What stands in braces at `start`, or the one token there; and where it ends."""
    if tokens[start] != "{":
        return tokens[start:start + 1], start + 1
    depth, end = 1, start + 1
    while depth:
        depth += {"{": 1, "}": -1}.get(tokens[end], 0)
        end += 1
    return tokens[start + 1:end - 1], end


def is_name(part, letter):
    """Does a subscript belong to the letter, as UK of W_{UK,h} and O of W_O do? The others are indices, letters of their own."""
    letters = [token for token in part if token.isalpha()]
    return any(f"\\{word}" in part for word in WORDS) or len(part) == len(letters) > 1 or (
        letter == "W" and len(part) == 1 and part[0].isupper())


def split(tokens, separator):
    parts = [[]]
    for token in tokens:
        parts.append([]) if token == separator else parts[-1].append(token)
    return parts


def letters(tokens):
    """Of a formula, each with the names that belong to it: "W_UK", "q^C"."""
    found, place = [], 0
    while place < len(tokens):
        letter, place = tokens[place], place + 1
        command = letter[1:] if letter[0] == "\\" else ""
        if command in WORDS or command in ("begin", "end"):
            place = argument(tokens, place)[1]
            continue
        if command in STYLES:
            styled, place = argument(tokens, place)
            letter += " " + "".join(styled)
        elif not (command in GREEK if command else letter.isalpha()):
            continue
        following = tokens[place] if place < len(tokens) else ""
        drop = letter == "e" and following == "^" or letter == "O" and following == "("  # the exponential; the order of growth
        indices = []
        while place < len(tokens) and tokens[place] in "_^'":
            mark, place = tokens[place], place + 1
            if mark == "'":
                continue
            parts, place = argument(tokens, place)
            for part in split(parts, ","):
                if mark == "_" and is_name(part, letter):
                    letter += "_" + "".join(token for token in part if token.isalpha())
                elif mark == "^" and len(part) == 1 and part[0].isupper():
                    letter += f"^{part[0]}" if part[0] != "T" else ""  # T: transposed
                else:
                    indices += letters(part)
        found += ([] if drop else [letter]) + indices
    return found


def letters_of(formula):
    return letters([token for token in TOKEN.findall(formula) if not token.isspace()])


def formulas(text):
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return [inline or display for inline, display in FORMULA.findall(text)]


def findings(pages):
    """`pages`: files of the book."""
    meanings = {}
    for page in pages:
        text, name = page.read_text(), page.relative_to(ROOT)
        table = TABLE.search(text)
        used = {letter for formula in formulas(text.replace(table[2], "") if table else text) for letter in letters_of(formula)}
        if not table:
            if used:
                yield f"{name}: formulas, and no section {{#...-letters}}"
            continue
        explained, shapes = set(), set()
        for row in ROW.findall(table[2]):
            letter, meaning = row[0], row[1:]
            explained.add(letters_of(letter)[0])
            shape = re.match(r"\(.*\)|0 \.\.\. .*", row[2])
            shapes.update(re.findall("[A-Z]", shape[0] if shape else ""))
            where, known = meanings.setdefault(letter, (name, meaning))
            if known != meaning:
                yield f"{name}: {letter} is '{' | '.join(meaning)}', and '{' | '.join(known)}' in {where}"
        yield from (f"{name}: the letter {letter} is in no row of its table" for letter in sorted(used - explained))
        yield from (f"{name}: the letter {letter} of a shape is in no row of its table" for letter in sorted(shapes - used - explained))
        if used:  # the first page has the letters of all sizes, and no formula
            yield from (f"{name}: the letter {letter} of its table is in no formula and no shape" for letter in sorted(explained - used - shapes))


if __name__ == "__main__":
    lines = list(findings([ROOT / name for name in sys.argv[1:]] or [*sorted(ROOT.glob("chapters/**/chapter.md")), *sorted(ROOT.glob("docs/*.md"))]))
    print("\n".join(lines) if lines else "docs/letters.py: nothing found")
    sys.exit(1 if lines else 0)
