"""Every assigned code point of Unicode 16 through published patterns, against Hugging Face tokenizers.

    venv/bin/pip install unicodedataplus==16.0.0
    venv/bin/python tests/golden/check_unicode.py PATH/kvbook

Ids of a small vocabulary would hardly notice where a text is cut. Here every two bytes are a token: a word of n bytes becomes pairs
from its first byte on, so that each cut in a wrong place shifts all pairs behind it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import unicodedataplus
from tokenizers import Tokenizer, pre_tokenizers

from make_tokenizers import LATER_MODEL, PIPELINES

CODE_POINTS_PER_TEXT = 4096


def code_points() -> list[str]:
    assert unicodedataplus.unidata_version == "16.0.0"
    everything = map(chr, [*range(0xD800), *range(0xE000, 0x110000)])
    return [c for c in everything if unicodedataplus.category(c) not in ("Cn", "Co")]


def texts() -> list[str]:
    """Each code point beside letters, a digit, a blank, a line end and itself."""
    points = code_points()
    return ["".join(f"{c}\na{c}\n1{c}\n {c}\n{c}{c}a" for c in points[i:i + CODE_POINTS_PER_TEXT])
            for i in range(0, len(points), CODE_POINTS_PER_TEXT)]


def pairs_of_bytes() -> dict:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [[a, b] for a in alphabet for b in alphabet]
    vocab = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in pairs)])}
    return {"type": "BPE", **LATER_MODEL, "vocab": vocab, "merges": pairs}


def check(kvbook: str, pipeline, model: dict) -> int:
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": pipeline.normalizer,
             "pre_tokenizer": pipeline.pre_tokenizer, "post_processor": None, "decoder": pipeline.decoder, "model": model}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_text(json.dumps(whole))
        reference = Tokenizer.from_str(json.dumps(whole))
        different = count = 0
        for text in texts():
            run = subprocess.run([kvbook, "tokenise", "--model", folder, "--json"], input=text.encode(), check=True, capture_output=True)
            count += 1
            found, encoding = json.loads(run.stdout)["ids"], reference.encode(text, add_special_tokens=False)
            if found != encoding.ids:
                different += 1
                at = next((i for i, pair in enumerate(zip(found, encoding.ids)) if pair[0] != pair[1]), len(found) - 1)
                print(f"  {pipeline.name}: near {ascii(text[max(0, encoding.offsets[at][0] - 4):encoding.offsets[at][1] + 4])}")
    print(f"{pipeline.name}: {count} texts, {different} differ", flush=True)
    return different


def main(kvbook: str) -> None:
    model = pairs_of_bytes()
    sys.exit(sum(check(kvbook, pipeline, model) for pipeline in PIPELINES if pipeline.pre_tokenizer) != 0)


if __name__ == "__main__":
    main(sys.argv[1])
