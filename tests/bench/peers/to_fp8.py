#!/usr/bin/env python3
"""to_fp8.py CHECKPOINT DIRECTORY

Rounds a synthetic bf16 checkpoint (see make_synthetic) to fp8 as DeepSeek-V3 stores it: F8_E4M3 with one f32 scale for every
128 x 128 block. Embedding, norms and routers stay as they are; unlike in DeepSeek-V3 the head is rounded too, because
the 8-bit formats of the peers round it. Needs numpy.
"""
import argparse
import json
import mmap
import pathlib

import numpy as np

BLOCK, LARGEST = 128, 448.0


def e4m3(values: np.ndarray) -> np.ndarray:
    """Nearest e4m3, ties to even, of f32 values within +-448."""
    bits = values.view(np.uint32)
    sign, size = (bits >> 24 & 0x80).astype(np.uint8), bits & 0x7FFFFFFF
    normal = (size + 0x7FFFF + (size >> 20 & 1) >> 20) - (120 << 3)  # drop 20 bits of the fraction, move the bias from 127 to 7
    subnormal = np.rint(np.abs(values) * 512).astype(np.uint32)
    return np.where(size < 121 << 23, subnormal, normal).astype(np.uint8) | sign


def rounded(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = bits.shape
    row_blocks, column_blocks = -(-rows // BLOCK), -(-columns // BLOCK)
    values = np.zeros((row_blocks * BLOCK, column_blocks * BLOCK), np.float32)
    values[:rows, :columns] = (bits.astype(np.uint32) << 16).view(np.float32)
    blocks = values.reshape(row_blocks, BLOCK, column_blocks, BLOCK)
    scales = np.maximum(np.abs(blocks).max(axis=(1, 3)) / LARGEST, 1e-30).astype(np.float32)
    codes = e4m3(np.clip(blocks / scales[:, None, :, None], -LARGEST, LARGEST))
    return codes.reshape(values.shape)[:rows, :columns], scales


def is_rounded(name: str, entry: dict) -> bool:
    return len(entry["shape"]) == 2 and not name.endswith("mlp.gate.weight") and "embed_tokens" not in name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    options = parser.parse_args()
    with open(options.checkpoint / "model.safetensors", "rb") as file:
        source = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(source[:8], "little")
    entries = json.loads(source[8:start])
    header, offset = {}, 0

    def plan(name: str, dtype: str, shape: list[int], width: int) -> None:
        nonlocal offset
        size = width * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size

    for name, entry in entries.items():
        if is_rounded(name, entry):
            plan(name + "_scale_inv", "F32", [-(-size // BLOCK) for size in entry["shape"]], 4)
            plan(name, "F8_E4M3", entry["shape"], 1)
        else:
            plan(name, entry["dtype"], entry["shape"], 4 if entry["dtype"] == "F32" else 2)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    options.directory.mkdir(parents=True, exist_ok=True)
    with open(options.directory / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, entry in entries.items():
            first, last = (start + offset for offset in entry["data_offsets"])
            if is_rounded(name, entry):
                codes, scales = rounded(np.frombuffer(source, np.uint16, (last - first) // 2, first).reshape(entry["shape"]))
                file.write(scales.tobytes() + codes.tobytes())
            else:
                file.write(source[first:last])
    config = json.loads((options.checkpoint / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [BLOCK, BLOCK]}
    (options.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
