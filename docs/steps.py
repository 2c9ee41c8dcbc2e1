#!/usr/bin/env python3
"""docs/steps.py: clicks through the page "One step at a time" as a reader with a keyboard would. docs/check calls it.

A headless Chromium opens a copy of the page from a folder of its own, by file://, at the width of a phone and of a laptop; every
step of every model and stage is called up by keys. A finding is an error on the console, a request to a network, a counter that
its formula does not give, a page that must be pushed sideways, a key without effect. Where there is no Chromium nothing is looked at."""
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "build/docs/html/step.html"
WIDTHS = (390, 1280)
SECONDS = 120
LOOK = """[document.documentElement.scrollWidth > window.innerWidth, document.querySelectorAll('.bad').length,
  at.step, at.model, at.stages.join(), at.layer, steps().length, trace().stages.length, TRACES.length]"""


class Browser:
    """Chromium over a pair of pipes: messages are JSON, each ended by a zero byte."""

    def __init__(self, program):
        (theirs_in, self.out), (self.into, theirs_out) = os.pipe(), os.pipe()

        def pipes_as_3_and_4():
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
            os.dup2(ends[0], 3), os.dup2(ends[1], 4)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        self.process = subprocess.Popen([program, *options, "about:blank"], preexec_fn=pipes_as_3_and_4, close_fds=False,
                                        stderr=subprocess.DEVNULL)
        os.close(theirs_in), os.close(theirs_out)
        self.events, self.number, self.rest, self.session = [], 0, b"", {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def message(self):
        while b"\0" not in self.rest:
            more = os.read(self.into, 1 << 16)
            if not more:
                raise OSError("the browser has ended")
            self.rest += more
        one, _, self.rest = self.rest.partition(b"\0")
        return json.loads(one)

    def call(self, method, **parameters):
        self.number += 1
        os.write(self.out, json.dumps({"id": self.number, "method": method, "params": parameters, **self.session}).encode() + b"\0")
        while (answer := self.message()).get("id") != self.number:
            self.events.append(answer)
        return answer.get("result", answer)

    def open(self, file):
        self.call("Page.navigate", url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key, code="", shift=False):
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code or key, modifiers=8 if shift else 0)

    def size(self, width):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def end(self):
        self.call("Browser.close")
        self.process.wait(SECONDS)


def complaints(events):
    """What the console and the network have to say."""
    for event in events:
        what, found = event["method"], event["params"]
        if what == "Runtime.exceptionThrown":
            yield f"an error: {found['exceptionDetails'].get('exception', {}).get('description', found['exceptionDetails']['text'])}"
        if what == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert") or what == "Log.entryAdded":
            yield f"the console says {json.dumps(found)[:200]}"
        if what == "Network.requestWillBeSent" and not found["request"]["url"].startswith(("file:", "data:", "about:")):
            yield f"asks a network for {found['request']['url']}"


def walk(browser, width):
    """Every step of every model with every stage at the left, and the next one at the right."""
    browser.size(width)
    models = browser.value(LOOK)[-1]
    for model in range(models):
        stages = browser.value(LOOK)[-2]
        for stage in range(stages if width == WIDTHS[0] else 1):
            browser.press("Home")
            browser.press("digit", f"Digit{stage + 1}")
            browser.press("digit", f"Digit{(stage + 1) % stages + 1}", shift=True)
            for step in range(browser.value(LOOK)[6]):
                sideways, wrong, *found = browser.value(LOOK)
                where = f"{width} px, model {model}, stage {stage + 1}, step {step}"
                if found[:3] != [step, model, f"{stage},{(stage + 1) % stages}"]:
                    yield f"{where}: the keys led to {found[:3]}"
                if sideways or wrong:
                    yield f"{where}: " + ("wider than the screen" if sideways else f"{wrong} counters are not what the formula gives")
                browser.press("ArrowRight")
        before = browser.value("at.layer")
        browser.press("ArrowDown")
        if browser.value("at.layer") == before:
            yield f"{width} px, model {model}: no other layer by ArrowDown"
        browser.press("m")


def findings():
    program = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
    if not program:
        print("docs/check: no Chromium here: nobody clicks through docs/step", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(shutil.copy(PAGE, folder))
        browser = Browser(program)
        browser.open(page)
        starts = browser.value(LOOK) is not None
        found = [each for width in WIDTHS for each in walk(browser, width)] if starts else ["the page does not start"]
        found += complaints(browser.events)
        browser.events = []
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(page)
        if not browser.value("document.images.length > 3 && [...document.images].every((image) => image.naturalWidth > 300)"):
            found.append("without JavaScript there are no strips")
        browser.end()
    yield from (f"step.html: {each}" for each in dict.fromkeys(found))


if __name__ == "__main__":
    lines = list(findings())
    print("\n".join(lines) if lines else "docs/steps.py: nothing found")
    sys.exit(1 if lines else 0)
