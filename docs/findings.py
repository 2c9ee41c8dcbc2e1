"""docs/findings.py: what a reader would stumble over in the book that docs/run has built. One line for each finding, exit code 1 if
there are any.

Searches that must find their page, pages with nothing on them, links that lead nowhere, figures without words, marks of
Markdown that were left over, tables that are not there, listings wider than the page, letters of formulas (docs/letters.py),
papers and words (docs/citations.py), parts that a chapter lacks (docs/shape.py), transcripts that are old
(docs/transcripts.py), numbers in prose that no file holds (docs/prose_numbers.py), JSON fields that no page explains, stages
in other colours than their own, numbers of a GPU that are older than its code, commits that are not in the history, what is
wider than the page (docs/overflow.py), what cannot be read in light or dark (docs/themes.py), and what goes wrong when
somebody clicks through docs/step (docs/steps.py)."""
import html
import json
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import citations
import finish
import letters
import overflow
import prose_numbers
import shape
import steps
import themes
import transcripts

ROOT = pathlib.Path(__file__).resolve().parents[1]
HTML = ROOT / "build/docs/html"
WIDEST = 100
REFERENCE = ("annotated", "namespacekv", "classkv_1_1HeadCache", "pages")  # some of what Doxygen makes by itself

# What readers look for, and the page that answers.
SEARCHES = {"prefill": "ch03", "uncached": "ch01", "online softmax": "ch01", "grouped-query": "ch01", "concat": "ch02",
            "fragmentation": "ch02", "preallocated": "ch03", "capacity": "ch03", "absorption": "ch04", "decoupled RoPE": "ch04",
            "YaRN": "ch04", "top-k": "ch05", "load balance": "ch05", "roofline": "ch06", "wgmma": "ch06", "sliding window": "ch07",
            "attention sink": "ch07", "page table": "ch09", "prefix reuse": "ch09", "all-reduce": "ch10", "step at a time": "steps", "潜向量": "ch04"}


def first_found(index, query):
    """The rule of bookPlaces in docs/book.js."""
    total = None
    for term in finish.words_of(query):
        found = {}
        for word, places in index["words"].items():
            if word.startswith(term):
                for place, score in places:
                    found[place] = max(found.get(place, 0), score * (1 if word == term else 0.5))
        total = found if total is None else {place: total[place] + found[place] for place in total if place in found}
    ranked = sorted(total, key=lambda place: (index["places"][place][0].startswith("kv::"), -total[place], place))
    return index["places"][ranked[0]][1] if ranked else "nothing"


def searches():
    index = json.loads((HTML / "book_search.js").read_text().removeprefix("const bookSearch = ").rstrip(";\n"))
    for query, page in SEARCHES.items():
        found = first_found(index, query)
        if not found.startswith(page + "."):
            yield f"search '{query}': finds {found}, expected {page}"


def empty_pages():
    """A page has something on it; what the menu of a phone calls Chapters has the book's pages."""
    for page in sorted(HTML.glob("*.html")):
        contents = re.search(r'<div class="contents">(.*?)</div><!-- contents -->', page.read_text(), re.S)
        if contents and not finish.text_of(contents[1]):
            yield f"{page.name}: there is nothing on it"
    listed = (HTML / "pages.html").read_text()
    for page in finish.book_pages(HTML):
        if not page.name.endswith("-exercises.html") and f'href="{page.name}"' not in listed:
            yield f"pages.html: does not list {page.name}"


def anchors(page, known={}):
    if page not in known:
        known[page] = set(re.findall(r'(?:id|name)="([^"]+)"', page.read_text()))
    return known[page]


def links(page, content):
    for address in re.findall(r'(?:href|src)="([^"]*)"', content):
        file, _, anchor = html.unescape(address).partition("#")
        if re.match(r"[a-z]+:", address) or "$" in address:
            continue
        target = HTML / file if file else page
        if not target.is_file():
            yield f"{page.name}: a link to {address}, which is not there"
        elif anchor and target.suffix == ".html" and anchor not in anchors(target):
            yield f"{page.name}: a link to {address}; the file has no such place"


def figures(page, content):
    for image in re.findall(r"<(?:img|object)[^>]*>", content):
        if "doxygen.svg" not in image and not re.search(r'alt="[^"]{10,}"', image):
            yield f"{page.name}: a figure without words for those who cannot see it: {image[:80]}"


def leftovers(page, content):
    text = re.sub(r"<(pre|code|script|style)\b.*?</\1>|<div class=\"fragment\">.*?<!-- fragment -->", "", content, flags=re.S)
    text = re.sub(r"\\\(.*?\\\)|\\\[.*?\\\]|<[^>]+>", " ", text, flags=re.S)
    for found in re.findall(r".{0,30}(?:\*\*|\\f\[|\\f\$|@ref|@snippet).{0,30}", text):
        yield f"{page.name}: left over: {' '.join(found.split())}"


def listings():
    for source in finish.sources(HTML).values():
        for file, name in re.findall(r"^@snippet (\S+) (.+)$", source.read_text(), re.M):
            inside = False
            for number, line in enumerate((ROOT / file).read_text().split("\n"), 1):
                if line.rstrip().endswith(f"[{name}]"):
                    inside = not inside
                elif inside and len(line) > WIDEST:
                    yield f"{file}:{number}: {len(line)} columns in a listing of {source.relative_to(ROOT)}, at most {WIDEST}"


def tables(page, content, source):
    """As many as the source and what it includes: Doxygen drops an included file in silence when it holds a heading."""
    text = re.sub(r"^@include\{doc\} (\S+)$", lambda include: (ROOT / include[1]).read_text(), source.read_text(), flags=re.M)
    rules = len(re.findall(r"^\|(?: *:?-+:? *\|)+$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M))
    if rules != content.count('<table class="markdownTable">'):
        yield f"{page.name}: not all of the {rules} tables of {source.relative_to(ROOT)} are there"


def json_fields():
    """What a command prints with --json stands in back ticks on the page about commands."""
    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs/commands.md").read_text()))
    sources = [*ROOT.glob("chapters/program/*_command.cpp"), ROOT / "chapters/program/comparison.cpp", ROOT / "common/model/metrics.cpp"]
    for source in sorted(sources):
        for field in dict.fromkeys(re.findall(r'\bset\("(\w+)"', source.read_text())):
            if field not in explained and source.stem != "serve_command":
                yield f"{source.relative_to(ROOT)}: the JSON field '{field}' is not in docs/commands.md"


def colours():
    """Curves and rows of a figure that begin with a stage's name have its colour."""
    table = re.findall(r'\{"([^"]+)", \{"(#\w+)", "(#\w+)"\}\}', (ROOT / "chapters/studies/stage_colours.cpp").read_text())
    for file in sorted((ROOT / "docs/measured").glob("*.svg")):
        drawing = file.read_text()
        rows = [(f"--c{place}: ", name) for place, name in re.findall(r'var\(--c(\d)\)"/>\n<text[^>]*>([^<]*)', drawing.split("<polyline")[0])]
        rows += [(f".r{place}{{fill:", name) for name, place in re.findall(r'text-anchor="end">([^<]*)</text>\n<rect [^>]*class="r(\d+)"', drawing)]
        for mark, name in rows:
            own = next(((light, dark) for stage, light, dark in table if re.match(re.escape(stage) + r"($|[ ,])", name)), None)
            if own and [f"{mark}{colour}" in drawing for colour in own] != [True, True]:
                yield f"{file.relative_to(ROOT)}: '{name}' has another colour than chapters/studies/stage_colours.cpp says"


def old_numbers():
    """A GPU's numbers are of a commit. Where the code has changed since, the page says so."""
    for report in sorted((ROOT / "docs/measured").glob("gpu_*.json")):
        commit, passed = (json.loads(report.read_text())[field] for field in ("commit", "passed"))
        if not passed:
            yield f"{report.relative_to(ROOT)}: a step of this report failed, so it shows nothing"
        log = subprocess.run(["git", "-C", ROOT, "log", "--format=%h", f"{commit}..HEAD", "--", "chapters/06_cuda_kernels", "common/cuda",
                              ":!*.md"], capture_output=True, text=True)
        for chapter in sorted(ROOT.glob("chapters/06_cuda_kernels/**/chapter.md")):
            if log.stdout and "older than the code" not in chapter.read_text():
                yield f"{chapter.relative_to(ROOT)}: does not say that {report.name}, of {commit[:7]}, is older than the code"


def lost_commits():
    """A measured file names the commit that it was made at, which a reader can look at: not one that a rebase has replaced."""
    shallow = subprocess.run(["git", "-C", ROOT, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
    for file in sorted((ROOT / "docs/measured").glob("*.*")) if shallow.stdout.strip() == "false" else []:
        if file.name.startswith("gpu_"):  # old_numbers looks at those, which name another program's commit too
            continue
        for commit in sorted(set(re.findall(r'commit"?:? "?([0-9a-f]{7,40})\b', file.read_text()))):
            known = subprocess.run(["git", "-C", ROOT, "merge-base", "--is-ancestor", commit, "HEAD"], capture_output=True)
            if known.returncode:
                yield f"{file.relative_to(ROOT)}: is of commit {commit}, which is not in the history"


def main():
    if not (HTML / "book_search.js").exists():
        sys.exit("docs/check: there is no book in build/docs/html: call docs/run first")
    texts = [text for text in finish.sources(HTML).values() if text.parent.name != "exercises"]
    findings = [*searches(), *empty_pages(), *listings(), *letters.findings(texts), *citations.findings(texts), *transcripts.findings(),
                *prose_numbers.findings(), *json_fields(), *colours(), *old_numbers(), *lost_commits(), *overflow.findings(finish.book_pages(HTML)), *themes.findings([*finish.book_pages(HTML), *(HTML / f"{name}.html" for name in REFERENCE)]), *steps.findings(),
                *shape.findings(text for text in texts if text.name == "chapter.md")]
    sources = finish.sources(HTML)
    for page in finish.book_pages(HTML):
        content = page.read_text()
        findings += [*links(page, content), *figures(page, content), *leftovers(page, content), *tables(page, content, sources[page])]
    print("\n".join(findings) if findings else "docs/check: nothing found")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
