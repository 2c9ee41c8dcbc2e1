"""What chapter 9 says of traffic: runs `kvbook traffic` on a model, tiny-gqa when none is given, and writes tables. Counts do not
depend on the machine, times do."""
import datetime
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

kvbook = sys.argv[1]
model = sys.argv[2] if len(sys.argv) > 2 else "data/tiny-gqa"


def traffic(*options):
    return json.loads(subprocess.run([kvbook, "traffic", "--model", model, "--json", *options], check=True, capture_output=True).stdout)


def where():
    names = [line.split(": ", 1)[1] for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    busy = ", with other work on the machine: times say little" if os.getloadavg()[0] > 1 else ""
    return f"{pathlib.Path(model).name}, {datetime.date.today()}, {names[0]}, {os.cpu_count()} cores, commit {commit}{busy}."


measured = where()


def write(name, head, rows):
    numbers = [all(row[column][0].isdigit() for row in rows) for column in range(len(head))]
    with open(f"docs/measured/{name}.md", "w") as file:
        file.write("| " + " | ".join(head) + " |\n|" + "".join("---:|" if number else "---|" for number in numbers) + "\n")
        for row in rows:
            file.write("| " + " | ".join(row) + " |\n")
        file.write(f'\n<div class="measured">{measured}</div>\n')


def draw(name, title, x, y, curves, logarithmic=()):
    """A figure of curves, each {x: y}."""
    plot = {"title": title, "x": x, "y": y, "logarithmic": list(logarithmic), "footnote": measured,
            "curves": {name: sorted(points.items()) for name, points in curves.items()}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(plot, file)
        file.flush()
        subprocess.run([pathlib.Path(kvbook).with_name("kvbook-draw"), file.name, f"docs/measured/{name}.svg"], check=True)


POLICIES = {"continuous, chunks": ["--policy", "continuous"], "whole prompts": ["--policy", "whole-prompts"],
            "static": ["--policy", "static"], "continuous, no reuse": ["--no-reuse"]}
RATES = (10, 20, 40, 80, 160)
ROUNDS = 2


def policies():
    """Rates and policies in turns; of each number the median (of two rounds the mean)."""
    runs = {}
    for _ in range(ROUNDS):
        for rate in RATES:
            for name, options in POLICIES.items():
                of = traffic("--rate", str(rate), "--requests", "96", "--tokens-per-step", "128", *options)
                for field in of:
                    if isinstance(of[field], (int, float)):
                        runs.setdefault((rate, name), {}).setdefault(field, []).append(of[field])
    found = {key: {field: statistics.median(of) for field, of in fields.items()} for key, fields in runs.items()}

    def at(run, what, digits):
        return " / ".join(f"{run[f'{what}_ms_{percent}']:.{digits}f}" for percent in (50, 90, 99))

    rows = [[str(rate), name, f"{r['new_tokens_per_s']:.0f}", at(r, "ttft", 1), at(r, "tpot", 2), f"{100 * r['hit_rate']:.1f}%"]
            for (rate, name), r in found.items() if rate in (10, 40, 160)]
    write("traffic", ["requests/s", "policy", "new tokens/s", "TTFT at 50 / 90 / 99%, ms", "TPOT at 50 / 90 / 99%, ms", "hit rate"], rows)
    curves = {name: {rate: found[rate, name]["ttft_ms_50"] for rate in RATES} for name in POLICIES}
    draw("traffic_wait", "How long a request waits for its first token", "requests a second", "median TTFT, ms", curves, ["y"])


def gain():
    """Prompts of 64 tokens and answers of 4 to 400, most of them short, at Poisson's times: continuous batching beside static."""
    better = {"tokens a second": {}, "TTFT, median": {}, "TTFT, 90%": {}}
    for rate in RATES:
        draw_of = random.Random(rate)
        now, lines = 0.0, []
        for _ in range(96):
            now += draw_of.expovariate(rate) * 1000
            lines.append(json.dumps({"arrival_ms": now, "prompt_tokens": 64, "new_tokens": round(4 * 100 ** draw_of.random())}))
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            rounds = [[traffic("--trace", file.name, "--capacity", "1024", "--policy", policy) for policy in ("continuous", "static")] for _ in range(ROUNDS)]
        for name, field, up in (("tokens a second", "new_tokens_per_s", True), ("TTFT, median", "ttft_ms_50", False), ("TTFT, 90%", "ttft_ms_90", False)):
            ratio = statistics.median(continuous[field] / static[field] for continuous, static in rounds)
            better[name][rate] = ratio if up else 1 / ratio
    draw("traffic_gain", "Continuous batching against static, answers of 4 to 400 tokens", "requests a second", "times better", better, ["y"])


def pages():
    rows = []
    for page in ("16", "64", "128"):
        for pages in (None, 4096 // int(page)):
            r = traffic("--rate", "1000000", "--requests", "96", "--capacity", "1024", "--page", page, *(["--pages", str(pages)] if pages else []))
            rows.append([page, str(r["pages"]), f"{100 * r['hit_rate']:.1f}%", f"{100 * r['ideal_hit_rate']:.1f}%", str(r["preemptions"]),
                         str(r["fed_tokens"]), str(r["most_pages_held"]), f"{r['mean_wasted_rows']:.1f}"])
    write("pages", ["rows of a page", "pages", "hit rate", "of a cache that forgets nothing", "preemptions", "tokens fed", "most pages held", "wasted rows, mean"], rows)


if __name__ == "__main__":
    pages()
    policies()
    gain()
