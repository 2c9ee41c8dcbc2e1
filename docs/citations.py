#!/usr/bin/env python3
"""docs/citations.py: the papers of the book, and its words. docs/check calls it.

An entry of a section {#NAME-references} begins with **Author et al. YEAR**, says where the paper is to be had and,
after "*Here:*", what this book changed; its page cites it by these words, and cites nothing else. An entry of
docs/glossary.md is one sentence, with the Chinese word before it and the place that explains it behind it."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
REFERENCES = re.compile(r"^## References \{#\w+-references\}\n(.*)", re.S | re.M)
ENTRY = re.compile(r"^- \*\*(.+?)\*\*, \*.+?\*: (.*)$", re.M)
CITATION = re.compile(r"\b[A-Z]\w+(?: et al\.| and (?:[A-Z]\w+ ?)+|-AI) (?:19|20)\d\d[a-z]?\b")
PLACE = re.compile(r"arXiv:\d{4}\.\d{5}\b|doi:10\.\S+|https://\S+")
TERM = re.compile(r"- \*\*([\w-]+(?: [\w-]+)*)\*\* [^:]*[\u4e00-\u9fff][^:]*: [^.]+\. @ref [\w-]+ \"[^\"]+\"")


def citations(pages):
    places = {}
    for page in pages:
        text, name = page.read_text(), page.relative_to(ROOT)
        section = REFERENCES.search(text)
        entries = dict(ENTRY.findall(section[1])) if section else {}
        outside = text.replace(section[1], "") if section else text
        if section and len(entries) != len(re.findall("^- ", section[1], re.M)):
            yield f"{name}: an entry of its references is not '- **Author et al. YEAR**, *title*: ...'"
        for key, entry in entries.items():
            place = PLACE.search(entry)
            if not place or "*Here:*" not in entry:
                yield f"{name}: the reference {key} does not say where it is or what is changed here"
            elif places.setdefault(key, (name, place[0]))[1] != place[0]:
                yield f"{name}: {key} is {place[0]}, and {places[key][1]} in {places[key][0]}"
            if key not in outside:
                yield f"{name}: the reference {key} is cited nowhere on its page"
        yield from (f"{name}: cites {key}, which is not among its references"
                    for key in sorted(set(CITATION.findall(outside)) - set(entries)))
        yield from (f"{name}: {found}, outside of its references" for found in re.findall(r"arXiv:[\d.]+", outside))


def glossary():
    lines = [line for line in (ROOT / "docs/glossary.md").read_text().split("\n") if line.startswith("- ")]
    terms = [TERM.fullmatch(line) for line in lines]
    yield from (f"docs/glossary.md: not a term, a Chinese word, a sentence and a place: {line[:60]}"
                for line, term in zip(lines, terms) if not term)
    names = [term[1].lower().replace("-", " ") for term in terms if term]
    yield from (f"docs/glossary.md: '{after}' stands behind '{before}'" for before, after in zip(names, names[1:]) if before >= after)


def findings(pages):
    yield from citations(pages)
    yield from glossary()


if __name__ == "__main__":
    lines = list(findings([*sorted(ROOT.glob("chapters/**/chapter.md")), *sorted(ROOT.glob("docs/*.md"))]))
    print("\n".join(lines) if lines else "docs/citations.py: nothing found")
    sys.exit(1 if lines else 0)
