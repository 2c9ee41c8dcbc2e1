#!/usr/bin/env python3
"""docs/themes.py: every page in light and dark, from disk. docs/check calls it.

A headless Chromium opens every page by file://, lets formulas be set, and clicks the dark switch. A finding is an error on the
console, a request to a network, a switch that is not there or does nothing, a figure that is not loaded, and text that
cannot be told from its ground: a contrast below 4.5, or below 3 in large letters, as WCAG 2 counts it. Where there is no
Chromium nothing is looked at."""
import pathlib
import shutil
import sys
import time

import finish
import steps

ROOT = pathlib.Path(__file__).resolve().parents[1]
HTML = ROOT / "build/docs/html"
PATIENCE = 15  # seconds, for the formulas and figures of a page

# Doxygen's scripts add pictures of their own later; one that fails is complete, too.
READY = """document.readyState === 'complete' && [...document.images].every((image) => image.complete) && (typeof MathJax === 'undefined' ||
  [...document.querySelectorAll('script[type^="math/tex"]')].every((formula) => formula.MathJax && formula.MathJax.state === 2))"""
SWITCH = """(() => {
  const toggle = document.querySelector('doxygen-awesome-dark-mode-toggle'), before = document.documentElement.classList.contains('dark-mode');
  if (toggle) toggle.click();
  return Boolean(toggle) && document.documentElement.classList.contains('dark-mode') !== before;
})()"""
FIGURES = "[...document.images].filter((image) => !image.naturalWidth).map((image) => image.src)"
# The faintest text of each kind: the ground is that of the nearest element that has one, and of the page.
FAINT = """(() => {
  const parts = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = parts(getComputedStyle(element).backgroundColor);
    return own[3] === 0 ? ground(element.parentElement) : over(own, own[3] === undefined ? own : ground(element.parentElement));
  };
  const found = new Map(), texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.getClientRects().length || style.visibility !== 'visible' || element.closest('svg, script, style')) continue;
    const below = ground(element), [a, b] = [over(parts(style.color), below), below].map(light);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), size = parseFloat(style.fontSize);
    const least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
    const kind = element.tagName.toLowerCase() + (element.className ? '.' + String(element.className).split(' ').join('.') : '');
    if (contrast < least && !(found.get(kind)?.[0] <= contrast)) found.set(kind, [contrast, texts.currentNode.data.trim().slice(0, 30)]);
  }
  return [...found].map(([kind, [contrast, text]]) => `${contrast.toFixed(1)}: ${kind} "${text}"`);
})()"""


def look(browser, page):
    browser.events = []
    browser.open(page)
    end = time.monotonic() + PATIENCE
    while not browser.value(READY) and time.monotonic() < end:
        time.sleep(0.1)
    yield from (f"a figure that is not there: {address}" for address in browser.value(FIGURES))
    for theme in ("light", "dark"):
        yield from (f"{theme}: too faint, {text}" for text in browser.value(FAINT))
        if not browser.value(SWITCH):
            yield "no dark switch, or it does nothing"
    yield from steps.complaints(browser.events)


def findings(pages):
    program = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
    if not program:
        print("docs/check: no Chromium here: nobody looks at light and dark", file=sys.stderr)
        return
    browser = steps.Browser(program)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.size(1280)
    for page in pages:
        yield from (f"{page.name}: {found}" for found in dict.fromkeys(look(browser, page)))
    browser.end()


if __name__ == "__main__":
    lines = list(findings([HTML / name for name in sys.argv[1:]] or finish.book_pages(HTML)))
    print("\n".join(lines) if lines else "docs/themes.py: nothing found")
    sys.exit(1 if lines else 0)
