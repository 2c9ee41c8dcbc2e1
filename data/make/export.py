"""Write a model as a Hugging Face directory: config, bf16 weights, tokenizer, chat template.

    python data/make/export.py tiny-gqa --work build/models --data data
"""

import argparse
import json
import os
import pathlib
import shutil

import torch
from safetensors.torch import save_file

from recipe import MODELS
from train import build_model

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only the roles user and assistant are known') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")

# In the words of recall.py: how `kvbook needle` tells a fact and asks for it.
NEEDLE = dict(
    needle=" Remember that the secret code of Kate is {}.",
    question="<|user|>What is the secret code of Kate?<|assistant|>The secret code of Kate is",
    answer=" {}")


def load_checkpoint(name, work):
    """The trained model as it stands, in f32."""
    state = torch.load(work / f"{name}.pt", weights_only=False)
    model = build_model(MODELS[name].config)
    model.load_state_dict(state["model"])
    return model.eval(), state


def shipped_dtype(name, tensor):
    """bf16, except the router's bias: it is compared, not multiplied, and a rounded tie would change the choice."""
    return tensor.float() if name.endswith("e_score_correction_bias") else tensor.to(torch.bfloat16)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export(name, work, data):
    """Write next to the target, then move file by file, so a reader never sees half a file."""
    config = MODELS[name].config
    model, _ = load_checkpoint(name, work)
    target, staging = data / name, work / f"export-{name}"
    target.mkdir(parents=True, exist_ok=True)
    staging.mkdir(exist_ok=True)
    weights = {key: shipped_dtype(key, value).contiguous() for key, value in model.hugging_face_state().items()}
    save_file(weights, staging / "model.safetensors", metadata={"format": "pt"})
    write_json(staging / "config.json", config)
    write_json(staging / "generation_config.json", dict(bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False))
    write_json(staging / "tokenizer_config.json", dict(
        tokenizer_class="PreTrainedTokenizerFast", bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"], add_bos_token=True, add_eos_token=False,
        clean_up_tokenization_spaces=False, model_max_length=config["max_position_embeddings"],
        chat_template=CHAT_TEMPLATE))
    write_json(staging / "needle.json", NEEDLE)
    shutil.copy(work / "tokenizer.json", staging)
    for path in sorted(staging.iterdir()):
        partial = target / f".{path.name}.partial"
        shutil.copyfile(path, partial)       # without the private mode that safetensors gives its files
        os.replace(partial, target / path.name)
    size = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    print(f"export: {name}, {sum(w.numel() for w in weights.values()):,} numbers, {size:.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/models"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
    arguments = parser.parse_args()
    export(arguments.model, arguments.work, arguments.data)
