#!/usr/bin/env python3
"""docs/prose_numbers.py: a number with a unit in prose is in a file of docs/measured that its page shows or names, or is worked out.

It is worked out at the end of its page, in a comment that a reader of the book does not see:

    <!-- numbers
    13 MB = 32 * 100_000 * 4 / 1e6
    4.49 TB/s = gpu_h200.benchmark.ceilings.read_gb_per_s / 1000
    67 TFLOP/s = 67  # NVIDIA H200, data sheet
    -->

On the right stands Python; a name is a JSON file of docs/measured, and what comes from elsewhere has its source behind it.
Either way the last digit that is written is rounded. docs/check calls it."""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs/measured"
PAGES = ["README.md", "docs/*.md", "chapters/**/chapter.md"]
UNITS = (r"%|×|times|ns|us|ms|s|seconds|minutes|hours|[KMG]i?B|TB|[KMGT]B/s|[GT]FLOP(?:/s)?|tokens/s|nats|bytes")
NUMBER = re.compile(rf"(?<![\w.,/-])(\d[\d,]*(?:\.\d+)?)(?: |-| ?(?=[%×]))({UNITS})(?![\w/])")
WORKED_OUT = re.compile(r"^<!-- numbers\n(.*?)^-->", re.M | re.S)
NO_PROSE = re.compile(r"^```.*?^```|<!--.*?-->|\\f\[.*?\\f\]|\\f\$.*?\\f\$|`[^`]*`|^@(?:include|verbinclude|snippet).*?$", re.M | re.S)
SMALL_BYTES = 1000  # fewer are part of a layout, which formulas and listings say


class Fields(dict):
    """gpu_h200.benchmark.ceilings in place of gpu_h200["benchmark"]["ceilings"]."""
    __getattr__ = dict.__getitem__


class Files(dict):
    def __missing__(self, name):
        return json.loads((MEASURED / f"{name}.json").read_text(), object_hook=Fields)


def value(written):
    return float(written.replace(",", ""))


def decimals(written):
    return len(written.partition(".")[2])


def is_rounded(written, exact):
    """Whether somebody who rounds writes so many digits. Half a digit more for decimals that binary fractions only come near to."""
    return abs(exact - value(written)) <= 0.5000001 * 10 ** -decimals(written)


def shown(text):
    """The numbers in the files that a page shows or names, as text, and whether they are percentages."""
    files = set(re.findall(r"docs/measured/(\w+\.(?:md|txt|svg))", text)) | set(re.findall(r"^@image html (\w+\.svg)", text, re.M))
    content = "\n".join((MEASURED / file).read_text() for file in files if (MEASURED / file).exists())
    content = re.sub(r"<svg.*?</svg>", lambda drawing: " ".join(re.findall(r">([^<]+)</text>", drawing[0])), content, flags=re.S)
    return [(value(number), unit) for number, unit in re.findall(r"(?<![\w.])(\d[\d,]*(?:\.\d+)?)(%?)", content)]


def worked_out(page, text):
    """(number, unit) -> exact value, of the page's own comment."""
    found = {}
    for block in WORKED_OUT.findall(text):
        for line in block.splitlines():
            left, _, right = line.partition(" = ")
            number, unit = NUMBER.fullmatch(left).groups()
            if re.fullmatch(r"[\d_.e]+\s*", right):
                raise ValueError(f"{page}: '{line}' is a bare number without a source")
            found[number, unit] = eval(right, {}, Files())
    return found


def findings():
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            page, text = path.relative_to(ROOT), path.read_text()
            derived, in_files, used = worked_out(page, text), shown(text), set()
            prose = NO_PROSE.sub(lambda part: "\n" * part[0].count("\n") or " ", text)
            for found in NUMBER.finditer(prose):
                number, unit = found.groups()
                if unit == "bytes" and value(number) < SMALL_BYTES:
                    continue
                used.add((number, unit))
                if (number, unit) not in derived and not any(
                        is_rounded(number, exact) and (mark == "%") == (unit == "%") for exact, mark in in_files):
                    line = prose.count("\n", 0, found.start()) + 1
                    yield f"{page}:{line}: no file has '{found[0]}', and it is not worked out at the end of the page"
            for (number, unit), exact in derived.items():
                if (number, unit) not in used:
                    yield f"{page}: works out '{number} {unit}', which its text does not say"
                elif not is_rounded(number, exact):
                    yield f"{page}: says {number} {unit}, worked out are {exact:.6g}"


if __name__ == "__main__":
    lines = list(findings())
    print("\n".join(lines) if lines else "docs/prose_numbers.py: nothing found")
    sys.exit(1 if lines else 0)
