#!/usr/bin/env python3
"""Asks a running `kvbook serve` with the openai client as its users do, and checks what it promises.

    build/kvbook serve --port 8000 &
    tests/openai_client.py [http://127.0.0.1:8000] [--requests 200] [--at-once 32]

Every request is sent alone first, and then all again with so many in flight, streamed and whole, some cut off by a client
that leaves: each answer must be the one that it got alone. Exit code 0: all equal. Skipped (0) where openai is not
installed (`pip install openai`).
"""
import argparse
import concurrent.futures
import json
import random
import sys
import time
import urllib.request

try:
    import openai
except ImportError:
    print("skipped: the package openai is not installed")
    sys.exit(0)

WORDS = "once upon a time the little fox named Tom saw an owl in the old wood and said hello é 😀 to her friend".split()


def plan(number, rng):
    """Keyword arguments of one request, of one kind or the other."""
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 60)))
    if rng.random() < 0.5:  # a beginning that others share
        text = "Once upon a time, there was a fox named Tom. " * rng.randint(1, 4) + text
    request = {
        "max_tokens": rng.randint(1, 40),
        "temperature": rng.choice([0.0, 0.7, 1.0]),
        "top_p": rng.choice([0.9, 1.0]),
        "seed": number,
        "n": rng.choice([1, 1, 1, 3]),
        "stop": rng.choice([None, None, ["."], [" the", "owl sa"]]),
    }
    if rng.random() < 0.5:
        return "chat", {**request, "messages": [{"role": "user", "content": text}]}
    return "text", {**request, "prompt": text}


def texts_of(kind, choices):
    return [(c.message.content if kind == "chat" else c.text, c.finish_reason) for c in choices]


def whole(client, model, kind, request):
    create = client.chat.completions.create if kind == "chat" else client.completions.create
    answer = create(model=model, **request)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens < answer.usage.prompt_tokens
    return texts_of(kind, sorted(answer.choices, key=lambda c: c.index))


def streamed(client, model, kind, request):
    create = client.chat.completions.create if kind == "chat" else client.completions.create
    texts, reasons = [""] * request["n"], [None] * request["n"]
    for part in create(model=model, stream=True, stream_options={"include_usage": True}, **request):
        for choice in part.choices:
            texts[choice.index] += (choice.delta.content if kind == "chat" else choice.text) or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    return list(zip(texts, reasons))


def leave(client, model, kind, request):
    """A client that goes away after the first part."""
    create = client.chat.completions.create if kind == "chat" else client.completions.create
    stream = create(model=model, stream=True, **{**request, "max_tokens": 200, "stop": None})
    next(iter(stream))
    stream.close()


def look(url, path):
    with urllib.request.urlopen(url + path) as answer:
        return answer.read().decode()


def metric(url, name):
    lines = [line for line in look(url, "/metrics").splitlines() if line.startswith("kvbook:" + name + " ")]
    return float(lines[0].split()[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=32)
    arguments = parser.parse_args()
    url = arguments.url.rstrip("/")
    client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=600)
    model = client.models.list().data[0].id
    rng = random.Random(1)
    plans = [plan(i, rng) for i in range(arguments.requests)]

    alone = [whole(client, model, *p) for p in plans]

    def together(job):
        how, i = job
        got = how(client, model, *plans[i])
        return how.__name__, i, got

    jobs = [(how, i) for i in range(len(plans)) for how in (whole, streamed)]
    jobs += [(leave, i) for i in range(0, len(plans), 5)]
    rng.shuffle(jobs)
    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.at_once) as pool:
        for how, i, got in pool.map(together, jobs):
            if how != "leave" and got != alone[i]:
                wrong += 1
                print(f"request {i}, {how}: {got} is not {alone[i]}: {plans[i]}")
    time.sleep(0.5)
    held = [page for page in json.loads(look(url, "/pool"))["pages"] if isinstance(page, list)]
    print(f"{len(plans)} requests alone, {len(jobs)} with {arguments.at_once} at once: {wrong} differ; "
          f"{len(held)} pages held at the end, {metric(url, 'num_requests_running'):.0f} running, "
          f"hit rate {metric(url, 'prefix_cache_hit_rate'):.3f}")
    return 1 if wrong or held else 0


if __name__ == "__main__":
    sys.exit(main())
