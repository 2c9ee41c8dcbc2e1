#!/usr/bin/env python3
"""dummy_tokenizer.py CHECKPOINT: writes a tokenizer.json beside a synthetic checkpoint, with token i called t<i>, as to_gguf.py
calls them: a server needs names for what it answers."""
import json
import pathlib
import sys

directory = pathlib.Path(sys.argv[1])
size = json.loads((directory / "config.json").read_text())["vocab_size"]
bytes_of_text = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": bytes_of_text, "post_processor": None, "decoder": bytes_of_text,
             "model": {"type": "BPE", "vocab": {f"t{i}": i for i in range(size)}, "merges": []}}
(directory / "tokenizer.json").write_text(json.dumps(tokenizer))
