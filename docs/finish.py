#!/usr/bin/env python3
"""docs/finish.py HTML_FOLDER: what Doxygen leaves out of the book.

Figures become images: they follow the page's dark switch and not the system's, and say in words
what they show. Every listing says which file it is from, and marks what is new in it. A comma keeps to the formula before
it. Empty pages go. Tables that were printed too wide are folded, and every pragma has its colour. Numbers stand at the right of
their columns, and what is typed breaks nowhere inside of a word. And an index for the
search box, of the book's sections first and of its symbols after them. The page "One step at a time" gets its traces."""
import base64
import difflib
import html
import json
import math
import pathlib
import re
import sys
import textwrap

SHORT = 25  # characters of code in a text
# What a cell of numbers holds: one with its unit or share, a range, or a number and its error.
NUMBER = re.compile(r"[-−+~<>≤≥]?\s?\d[\d.,]*(?:\s?[%×]|\s[A-Za-zµ/]{1,9})?(?:\s(?:-|to|±|/)\s\d[\d.,]*%?(?:\s[A-Za-zµ/]{1,9})?)*")
PRINTED = 100  # columns of what a program printed
# Of one word: in a page's title, in a section's, each time in the text.
PAGE_TITLE, SECTION_TITLE = 40.0, 12.0
EXERCISES = 0.05  # of pages that ask what a chapter answers
REFERENCE = 0.5  # of the pages that are no chapters, beside a chapter; and of what a chapter has at its end
MEMBERS = re.compile(r'<a id="(\w+)" name="\w+"></a>\n<h2 class="memtitle">.*?</span>(.*?)</h2>', re.S)
CLASSES = re.compile(r'<a class="el" href="((?:class|struct)\w+\.html)"[^>]*>(\w+)</a>')
HEADINGS = re.compile(r'<h([1-4])[^>]*>(.*?)</h\1>', re.S)
TERM = re.compile(r'<li><b>(.*?)</b> (.*?): .*?<a class="el" href="([^"]*)"[^>]*>[^<]*</a></li>', re.S)
LINE = re.compile(r'<div class="line">.*?</div>')
FIGURE = re.compile(r'<object type="image/svg\+xml" data="([\w.-]+\.svg)"[^>]*></object>')


def text_of(markup):
    """Without tags, formulas and listings."""
    markup = re.sub(r'<div class="fragment">.*?<!-- fragment -->|<script.*?</script>|\\\(.*?\\\)|\\\[.*?\\\]', " ", markup,
                    flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def words_of(text):
    """Latin words and numbers, and runs of Chinese. docs/book.js has the same rule."""
    return re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]+", text.lower())


def book_pages(folder):
    """The pages of the book in its order: the first page, chapters, then the others that docs/ has."""
    names = ["index.html"] + sorted(path.name for path in folder.glob("ch[0-9][0-9]*.html"))
    names += [f"{page}.html" for page in ("steps", "identity", "performance", "claims", "commands", "extending", "glossary")]
    return [folder / name for name in names if (folder / name).exists()]


def sections(page):
    """(title, anchor, text, depth) of every section; the first is the page itself."""
    content = page.read_text()
    title = text_of(re.search(r'<div class="title">(.*?)</div>', content, re.S)[1])
    body = re.sub(r'<div class="toc">.*?</div>', "", content[content.index('<div class="contents">'):], flags=re.S)
    marks = [(match.start(), match.end(), text_of(match[2]), re.search(r'id="([\w-]+)"', match[2] + body[match.start():match.end()]))
             for match in HEADINGS.finditer(body)]
    starts = [0] + [mark[1] for mark in marks]
    ends = [mark[0] for mark in marks] + [len(body)]
    heads = [(title, "")] + [(name, found[1] if found else "") for _, _, name, found in marks]
    return title, [(name, anchor, text_of(body[start:end])) for (name, anchor), start, end in zip(heads, starts, ends)]


def add(index, words, place, score):
    for word in words:
        index.setdefault(word, {}).setdefault(place, 0.0)
        index[word][place] += score


def search_index(folder):
    """Places, and for each word where it stands with what weight. A word in few places weighs more."""
    places, index = [], {}
    for page in book_pages(folder):
        page_title, parts = sections(page)
        weight = EXERCISES if page.name.endswith("-exercises.html") else 1.0 if page.name.startswith("ch") else REFERENCE
        for number, (title, anchor, text) in enumerate(parts):
            place = len(places)
            if anchor.endswith(("-letters", "-references")):
                weight = REFERENCE
            places.append([title if number == 0 else f"{title} · {page_title}", page.name + (f"#{anchor}" if anchor else "")])
            add(index, words_of(title), place, weight * (PAGE_TITLE if number == 0 else SECTION_TITLE))
            counts = {}
            for word in words_of(text):
                counts[word] = counts.get(word, 0) + 1
            for word, count in counts.items():
                add(index, [word], place, weight * (1 + math.log(count)))
    for term, chinese, address in TERM.findall((folder / "glossary.html").read_text()):
        add(index, words_of(chinese), len(places), SECTION_TITLE)
        places.append([f"{term} · {chinese}", address])
    symbols = [(name, file) for file, name in CLASSES.findall((folder / "annotated.html").read_text())]
    namespace = folder / "namespacekv.html"
    symbols += [(text_of(name), f"{namespace.name}#{anchor}") for anchor, name in MEMBERS.findall(namespace.read_text())]
    for name, address in dict(symbols).items():
        add(index, words_of(re.sub(r"([a-z])([A-Z])", r"\1 \2", name.replace("_", " "))) + [name.lower().strip("()")],
            len(places), 1.0)
        places.append([f"kv::{name}", address])
    rarity = {word: math.log(1 + len(places) / len(found)) for word, found in index.items()}
    return {"places": places,
            "words": {word: [[place, round(score * rarity[word], 2)] for place, score in found.items()]
                      for word, found in sorted(index.items())}}


def sources(folder):
    """The Markdown of every page of the book, by the name that its title gives it."""
    root = pathlib.Path(__file__).resolve().parents[1]
    result = {"index.html": root / "docs/index.md"}
    for file in [*root.glob("chapters/**/chapter.md"), *root.glob("chapters/*/exercises/*.md"), *root.glob("docs/*.md")]:
        name = re.search(r"\{#([\w-]+)\}", file.read_text().split("\n", 1)[0])
        if name and name[1] != "mainpage":
            result[f"{name[1]}.html"] = file
    return {page: result[page.name] for page in book_pages(folder)}


def new_lines_marked(listing, before):
    """Marks the lines that the listing `before` has not, unless that is nearly all of them."""
    new, old = LINE.findall(listing), LINE.findall(before)
    same = difflib.SequenceMatcher(None, [text_of(line) for line in old], [text_of(line) for line in new], autojunk=False)
    kept = {place for _, start, size in same.get_matching_blocks() for place in range(start, start + size)}
    if len(kept) < len(new) / 5:
        return listing
    places = iter(range(len(new)))
    return LINE.sub(lambda line: line[0] if next(places) in kept else line[0].replace('class="line"', 'class="line new"', 1), listing)


def listings_with_files(folder):
    """Listings of a page stand in the order of its source: snippets and fenced blocks. One that comes after a mere "Now:" takes
    the place of the one before: its new lines are marked."""
    for page, source in sources(folder).items():
        listings = list(re.finditer(r"^@snippet (\S+) .+?$|^```\w*\n.*?^```$", source.read_text(), re.M | re.S))
        parts = page.read_text().split('<div class="fragment">')
        if len(parts) - 1 != len(listings):
            sys.exit(f"{page.name} has {len(parts) - 1} listings, {source.name} asks for {len(listings)}")
        text, end, before = parts[0], 0, ""
        for listing, part in zip(listings, parts[1:]):
            code, mark, rest = part.partition("<!-- fragment -->")
            code = code.replace("///&lt; ", "// ")  # a comment of the file, which Doxyfile's filter has changed
            now = source.read_text()[end:listing.start()].strip() == "Now:"
            text += (f'<div class="listing-file">{listing[1]}</div>' if listing[1] else "") + '<div class="fragment">'
            text += (new_lines_marked(code, before) if now else code) + mark + rest
            end, before = listing.end(), code
        page.write_text(text)


def figures_as_images(folder):
    for page in book_pages(folder):
        content = page.read_text()

        def image(match):
            drawing = (folder / match[1]).read_text()
            title = re.search(r"<title>(.*?)</title>", drawing, re.S)
            if not title:
                sys.exit(f"{match[1]} has no <title>: it says in words what the figure shows")
            return f'<img src="{match[1]}" alt="{html.escape(html.unescape(title[1]), quote=True)}"/>'
        page.write_text(FIGURE.sub(image, content))


def formulas_with_marks(folder):
    """A mark behind a formula, or a bracket before it, stays in its line; Doxygen's own space behind the bracket goes."""
    for page in book_pages(folder):
        content = re.sub(r"([(\[]) (\\\()", r"\1\2", page.read_text())
        content = re.sub(r"[(\[]?\\\((?:(?!\\\)).)*\\\)[.,;:!?)\]]*", lambda formula: formula[0] if formula[0].startswith("\\(") and
                         formula[0].endswith("\\)") else f'<span class="whole">{formula[0]}</span>', content)
        page.write_text(content)


def no_empty_pages(folder):
    """Doxygen makes a page for every Markdown file and for every folder, with nothing on it, and its list of pages leaves out
    those that are parts of the first: all of this book."""
    for page in [*folder.glob("*_8md.html"), *folder.glob("dir_*.html")]:
        if not text_of(re.search(r'<div class="contents">(.*?)</div><!-- contents -->', page.read_text(), re.S)[1]):
            page.unlink()
    for page in book_pages(folder):  # the name of a Markdown file in a text is no link to its empty page
        page.write_text(re.sub(r'<a class="el" href="\w+_8md\.html">(.*?)</a>', r"\1", page.read_text()))
    for page in folder.glob("dir_*.html"):
        page.write_text(re.sub(r'<tr class="memitem:">(?:(?!</tr>).)*href="(dir_\w+\.html)".*?</tr>\n',
                               lambda row: row[0] if (folder / row[1]).exists() else "", page.read_text()))
    titles = [(page.name, text_of(re.search(r'<div class="title">(.*?)</div>', page.read_text(), re.S)[1]))
              for page in book_pages(folder) if not page.name.endswith("-exercises.html")]
    links = "".join(f'<li><a href="{name}">{html.escape(title)}</a></li>' for name, title in titles)
    pages = folder / "pages.html"
    pages.write_text(re.sub(r'<div class="textblock">.*?</div><!-- directory -->', lambda _: f'<div class="textblock"><ul>{links}</ul></div>',
                            pages.read_text(), flags=re.S))


def pragmas_in_colour(folder):
    """Doxygen's colouring of CUDA loses every second of two pragmas that follow each other."""
    for page in book_pages(folder):
        page.write_text(re.sub(r'(<div class="line[^>]*>)( *#pragma [^<]*)(</div>)', r'\1<span class="preprocessor">\2</span>\3', page.read_text()))


def numbers_at_the_right(folder):
    """A column of numbers stands at the right, one without a number at the left; a number and its error stay in one line."""
    def aligned(table):
        columns = {}
        for row in re.findall(r"<tr.*?</tr>", table[0], re.S):
            for column, cell in enumerate(re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)):
                columns.setdefault(column, []).append(text_of(cell) or "-")
        sides = {}
        for column, cells in columns.items():
            cells = [cell for cell in cells if cell != "-"]
            if cells and all(map(NUMBER.fullmatch, cells)):
                sides[column] = "Right"
            elif not any(map(NUMBER.match, cells)):
                sides[column] = "None"

        def row_aligned(row):
            cells = iter(range(len(columns)))
            row = re.sub(r'(class="markdownTable(?:Head|Body))(\w+)"', lambda cell: f'{cell[1]}{sides.get(next(cells, None), cell[2])}"', row[0])
            return re.sub(r"(\d%?) ([±/]) (?=\d)", r"\1&#160;\2&#160;", row)
        return re.sub(r"<tr.*?</tr>", row_aligned, table[0], flags=re.S)
    for page in book_pages(folder):
        page.write_text(re.sub(r'<table class="markdownTable">.*?</table>', aligned, page.read_text(), flags=re.S))


def words_in_one_piece(folder):
    """An option breaks at none of its hyphens, and short code at none of its spaces."""
    for page in book_pages(folder):
        start, body = re.split(r'(?=<div class="contents">)', page.read_text(), maxsplit=1)
        body = re.sub(r"<code>(.*?)</code>", lambda code: f'<code class="whole">{code[1]}</code>' if len(text_of(code[1])) < SHORT else code[0], body, flags=re.S)
        page.write_text(start + re.sub(r"(?<=[\s>\[(])(--[a-z][a-z0-9-]*)(?![^<]*>)", r'<span class="whole">\1</span>', body))


def wide_tables(folder):
    """A table that a program printed wider than a page: what stands in its last two columns goes on below, in its column."""
    def folded(match):
        header, rows = match[1], re.findall(r'<div class="line">(.*?)</div>\n', match[2])
        starts = [found.start() for found in re.finditer(r"(?<!\S)\S+(?: \S+)*", header)]
        narrow = (PRINTED - starts[-2] - 2) // 2
        lines = []
        for row in map(html.unescape, [header, *rows]):
            cells = [textwrap.wrap(row[first:end].strip(), narrow) for first, end in ((starts[-2], starts[-1]), (starts[-1], None))]
            for i in range(max(1, *map(len, cells))):
                left, right = (cell[i] if i < len(cell) else "" for cell in cells)
                lines.append(f"{row[:starts[-2]] if i == 0 else '':{starts[-2]}}{left:{narrow + 2}}{right}".rstrip())
        lines.insert(1, "-" * PRINTED)
        return "".join(f'<div class="line">{html.escape(line, quote=False)}</div>\n' for line in lines)
    for page in book_pages(folder):
        page.write_text(re.sub(r'<div class="line">([^<\n]*)</div>\n<div class="line">-{%d,}</div>\n((?:<div class="line">[^<\n$]+</div>\n)+)'
                               % (PRINTED + 20), folded, page.read_text()))


def step_page(folder):
    """One file: traces as they are, and as images what is shown without JavaScript."""
    docs = pathlib.Path(__file__).resolve().parent
    traces = ",".join((docs / f"measured/trace_{model}.json").read_text().strip() for model in ("gqa", "mla"))
    strips = "".join(f'<p><img alt="six steps of stage {stage}" src="data:image/svg+xml;base64,'
                     f'{base64.b64encode((docs / f"measured/steps_{stage}.svg").read_bytes()).decode()}"></p>'
                     for stage in ("uncached", "concat", "preallocated", "latent"))
    page = (docs / "step/page.html").read_text().replace("<!--STRIPS-->", strips)
    (folder / "step.html").write_text(page.replace("/*TRACES*/[]", "[" + traces.replace("<", "\\u003c") + "]"))


def main(folder):
    figures_as_images(folder)
    listings_with_files(folder)
    formulas_with_marks(folder)
    no_empty_pages(folder)
    pragmas_in_colour(folder)
    wide_tables(folder)
    numbers_at_the_right(folder)
    words_in_one_piece(folder)
    step_page(folder)
    (folder / "book_search.js").write_text(f"const bookSearch = {json.dumps(search_index(folder), separators=(',', ':'))};\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
