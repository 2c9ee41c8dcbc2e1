#!/usr/bin/env python3
"""docs/overflow.py: what is wider than its column in the built book, from a phone to a large screen. docs/check calls it.

A headless Chromium opens every page and makes it narrow and wide. What lies in a box of its own that scrolls, as a listing
on a phone does, is no finding; a listing, a table or a formula that must be scrolled on a laptop or a larger screen is one.
Where there is no Chromium nothing is looked at."""
import functools
import http.server
import html
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[1]
HTML = ROOT / "build/docs/html"
WIDTHS = (390, 1265, 1385, 1905)  # a phone's; 1280, 1400 and 1920 without the page's scroll bar
ALL_FITS_FROM = 1265
SECONDS = 300

SCRIPT = """<body><script>
const clipped = (element, top) => {
  for (let box = element.parentElement; box && box !== top; box = box.parentElement)
    if (getComputedStyle(box).overflowX !== 'visible') return true;
  return false;
};
const words = (element) => element.tagName.toLowerCase() + ' "' + element.textContent.trim().replace(/\\s+/g, ' ').slice(0, 50) + '"';
const wide = (page, width) => {
  const top = page.getElementById('doc-content'), edge = top.getBoundingClientRect().right + 1;
  const found = [...top.querySelectorAll('.contents *')].filter((e) => e.getBoundingClientRect().right > edge && !clipped(e, top));
  const boxes = [...top.querySelectorAll('.fragment, table.markdownTable, .MathJax_SVG_Display')];
  const cut = width < FIT ? [] : boxes.filter((e) => e.scrollWidth > e.clientWidth + 1);
  return [...found.slice(0, 1), ...cut].map(words);
};
const wait = (time) => new Promise((done) => setTimeout(done, time));
(async () => {
  const found = [], frame = document.createElement('iframe');
  document.body.append(frame);
  frame.style.height = '900px';
  for (const name of PAGES) {
    await new Promise((done) => { frame.onload = done; frame.src = name; });
    await wait(3000);
    for (const width of WIDTHS) {
      frame.style.width = width + 'px';
      await wait(200);
      for (const what of wide(frame.contentDocument, width)) found.push([name, width, what]);
    }
  }
  const result = document.createElement('pre');
  result.id = 'found';
  result.textContent = JSON.stringify(found);
  document.body.replaceChildren(result);
})();
</script></body>"""


class Server(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments, pages, **options):
        self.pages = pages
        super().__init__(*arguments, directory=HTML, **options)

    def do_GET(self):
        if self.path != "/overflow":
            return super().do_GET()
        page = SCRIPT.replace("PAGES", json.dumps(self.pages)).replace("WIDTHS", json.dumps(WIDTHS)).replace("FIT", str(ALL_FITS_FROM))
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_):
        pass


def findings(pages):
    browser = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
    if not browser:
        print("docs/check: no Chromium here: widths are not looked at", file=sys.stderr)
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, pages=[page.name for page in pages]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        run = subprocess.run([browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=2000,1000",
                              f"--virtual-time-budget={5000 + 4500 * len(pages)}", "--dump-dom", f"http://127.0.0.1:{server.server_port}/overflow"],
                             capture_output=True, text=True, timeout=SECONDS)
        found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.S)
    except subprocess.TimeoutExpired:
        found = None
    finally:
        server.shutdown()
    if not found:
        yield "docs/overflow.py: the browser gave no answer"
        return
    for page, width, what in json.loads(html.unescape(found[1])):
        yield f"{page}: wider than the page at {width} px: {what}"


if __name__ == "__main__":
    lines = list(findings(sorted(HTML.glob("ch*.html"))))
    print("\n".join(lines) if lines else "docs/overflow.py: nothing found")
    sys.exit(1 if lines else 0)
