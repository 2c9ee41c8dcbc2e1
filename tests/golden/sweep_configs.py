"""Takes config.json apart: every key, one at a time, left out and set to null, in both spellings, for every family.

    venv/bin/python tests/golden/sweep_configs.py PATH/kvbook [CASE...]

Where transformers and kvbook both give logits they must be equal; where kvbook refuses it must name the key, another one
that it then does not agree with, or a tensor. A key that is guessed in silence, otherwise than transformers does, fails the sweep.
What transformers fills with random weights, because tensors are missing or do not fit, counts as refused.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
CASES = ["llama-gqa", "llama-biases", "llama-tied", "llama3-rope", "mistral", "mixtral", "qwen2", "qwen2-moe", "qwen3", "qwen3-biases",
         "qwen3-moe", "deepseek-v2-lite", "deepseek-v2-group", "deepseek-v2-yarn", "deepseek-v3-moe", "deepseek-v3-yarn",
         "deepseek-v3-biases", "mistral-window", "mixtral-window", "qwen2-window", "qwen2-moe-window", "qwen3-layer-types",
         "qwen3-moe-window"]
SPELLINGS = ["config.json", "config_other_spelling.json"]
TOLERANCE = 1e-4  # of the largest logit


def changes(config: dict, at: tuple = ()):
    """(path, config without the key), (path, config with null)"""
    for key, value in config.items():
        yield (*at, key, "absent"), {k: v for k, v in config.items() if k != key}
        if value is not None:
            yield (*at, key, "null"), config | {key: None}
        if isinstance(value, dict):
            yield from ((path, config | {key: inner}) for path, inner in changes(value, (*at, key)))


@torch.no_grad()
def reference(folder: Path, tokens: np.ndarray):
    """Logits, or why there are none."""
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
        if report["missing_keys"] or report["mismatched_keys"]:
            return "random weights"
        return model.eval()(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0].numpy()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def ours(kvbook: str, folder: Path, tokens: np.ndarray):
    output = folder / "logits.npy"
    run = subprocess.run([kvbook, "logits", "--model", folder, "--stage", "preallocated", "--tokens", ",".join(map(str, tokens)),
                          "--output", output], capture_output=True, text=True, timeout=60)
    if run.returncode == 0:
        return np.load(output)
    assert run.returncode == 1 and run.stderr.startswith("kvbook: error: "), f"exit code {run.returncode}: {run.stderr}"
    return run.stderr.strip()


def verdict(path: tuple, config: dict, expected, found) -> str:
    if isinstance(found, str):
        if not any(name in found for name in ["tensor '", path[-2], *config]):
            return "REFUSED WITHOUT A NAME"
        return "both refuse" if isinstance(expected, str) else "only kvbook refuses"
    if isinstance(expected, str):
        return "only transformers refuses"
    return "equal" if np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max() else "DIFFERENT"


def sweep(kvbook: str, name: str, spelling: str) -> Counter:
    golden, counts = HERE / "models" / name, Counter()
    tokens = np.load(golden / "tokens.npy")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file in golden.glob("model*"):
            (folder / file.name).symlink_to(file.resolve())
        for path, config in changes(json.loads((golden / spelling).read_text())):
            (folder / "config.json").write_text(json.dumps(config))
            expected, found = reference(folder, tokens), ours(kvbook, folder, tokens)
            result = verdict(path, config, expected, found)
            counts[result] += 1
            if result not in ("equal", "both refuse"):
                why = [text for text in (expected, found) if isinstance(text, str)]
                print(f"{name} {spelling} {'.'.join(path)}: {result} {' | '.join(why)[:250]}")
    return counts


def main(kvbook: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    counts = sum((sweep(kvbook, name, spelling) for name in names or CASES for spelling in SPELLINGS), Counter())
    print(", ".join(f"{count} {result}" for result, count in counts.most_common()))
    sys.exit(any(result.isupper() for result in counts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
