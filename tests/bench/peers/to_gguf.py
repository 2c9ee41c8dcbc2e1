#!/usr/bin/env python3
"""to_gguf.py CHECKPOINT OUTPUT.gguf [--type bf16|f16|q8_0] [--layout llama|ik]

Writes a synthetic checkpoint (see make_synthetic) of Llama's or of DeepSeek-V2-Lite's shape as GGUF, under the names that llama.cpp
and ik_llama.cpp give to the tensors of architectures llama and deepseek2. Of the latter both layouts carry the two halves of kv_b_proj
apart, for absorbed attention; layout ik, what ik_llama.cpp's own converter writes, has the whole of it too. The tokenizer is a dummy.

Needs the packages gguf and numpy. Norms and the router stay in f32, as in the peers' own converters.
"""
import argparse
import json
import mmap
import pathlib

import gguf
import numpy as np

TYPES = {"bf16": gguf.GGMLQuantizationType.BF16, "f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}

OF_MODEL = {"embed_tokens": "token_embd", "norm": "output_norm"}
OF_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}


class Checkpoint:
    """model.safetensors in place; tensors come as bf16 bit patterns (uint16)."""

    def __init__(self, directory: pathlib.Path):
        with open(directory / "model.safetensors", "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self.bytes[:8], "little")
        self.entries = json.loads(self.bytes[8 : 8 + length])
        self.start = 8 + length

    def bits(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        assert entry["dtype"] == "BF16", (name, entry["dtype"])
        first, last = entry["data_offsets"]
        return np.frombuffer(self.bytes, np.uint16, (last - first) // 2, self.start + first).reshape(entry["shape"])


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def add(writer: gguf.GGUFWriter, name: str, bits: np.ndarray, kind: str) -> None:
    if bits.ndim == 1 or "ffn_gate_inp" in name:
        writer.add_tensor(name, widened(bits))
    elif kind == "bf16":
        writer.add_tensor(name, np.ascontiguousarray(bits).view(np.uint8), raw_dtype=TYPES[kind])
    elif kind == "f16":
        writer.add_tensor(name, widened(bits).astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quants.quantize(widened(bits), TYPES[kind]), raw_dtype=TYPES[kind])


def add_metadata(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_name("synthetic")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"t{i}" for i in range(config["vocab_size"])])
    writer.add_token_types([gguf.TokenType.NORMAL] * config["vocab_size"])
    writer.add_token_merges(["t 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


def add_llama_metadata(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])


def add_deepseek_metadata(writer: gguf.GGUFWriter, config: dict, layout: str) -> None:
    rope = config["rope_scaling"]
    plain, rotated, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    rank, heads = config["kv_lora_rank"], config["num_attention_heads"]
    writer.add_rope_dimension_count(rotated)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_q_lora_rank(0)  # queries have no latent; llama.cpp asks all the same unless there are 27 layers
    writer.add_kv_lora_rank(rank)
    if layout == "llama":  # one head of latents, shared by all queries
        writer.add_head_count_kv(1)
        writer.add_key_length(rank + rotated)
        writer.add_value_length(rank)
        writer.add_key_length_mla(plain + rotated)
        writer.add_value_length_mla(value)
    else:
        writer.add_head_count_kv(heads)
        writer.add_key_length(plain + rotated)
        writer.add_value_length(value)
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_expert_weights_norm(config["norm_topk_prob"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)


def paired(bits: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head as architecture llama rotates them: halves (i, i + D/2) become pairs (2i, 2i + 1)."""
    rows, columns = bits.shape
    return bits.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def add_tensors(writer: gguf.GGUFWriter, checkpoint: Checkpoint, config: dict, kind: str) -> None:
    """What both architectures have."""
    for name, renamed in OF_MODEL.items():
        add(writer, f"{renamed}.weight", checkpoint.bits(f"model.{name}.weight"), kind)
    add(writer, "output.weight", checkpoint.bits("lm_head.weight"), kind)
    for layer in range(config["num_hidden_layers"]):
        here, there = f"model.layers.{layer}.", f"blk.{layer}."
        for name, renamed in OF_LAYER.items():
            if f"{here}{name}.weight" in checkpoint.entries:
                bits = checkpoint.bits(f"{here}{name}.weight")
                if "kv_lora_rank" not in config and name in ("self_attn.q_proj", "self_attn.k_proj"):
                    bits = paired(bits, config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"])
                add(writer, f"{there}{renamed}.weight", np.ascontiguousarray(bits), kind)


def add_deepseek_tensors(writer: gguf.GGUFWriter, checkpoint: Checkpoint, config: dict, kind: str, layout: str) -> None:
    heads, rank = config["num_attention_heads"], config["kv_lora_rank"]
    plain, value = config["qk_nope_head_dim"], config["v_head_dim"]
    for layer in range(config["num_hidden_layers"]):
        here, there = f"model.layers.{layer}.", f"blk.{layer}."
        whole = checkpoint.bits(f"{here}self_attn.kv_b_proj.weight")
        of_heads = whole.reshape(heads, plain + value, rank)
        keys, values = of_heads[:, :plain].transpose(0, 2, 1), of_heads[:, plain:]
        if layout == "ik":
            add(writer, f"{there}attn_kv_b.weight", whole, kind)
            keys, values = keys.reshape(heads * rank, plain), values.reshape(heads * value, rank)
        add(writer, f"{there}attn_k_b.weight", np.ascontiguousarray(keys), kind)
        add(writer, f"{there}attn_v_b.weight", np.ascontiguousarray(values), kind)
        if layer < config["first_k_dense_replace"]:
            continue
        for part in ("gate", "up", "down"):
            experts = [checkpoint.bits(f"{here}mlp.experts.{e}.{part}_proj.weight") for e in range(config["n_routed_experts"])]
            add(writer, f"{there}ffn_{part}_exps.weight", np.stack(experts), kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--type", choices=TYPES, default="bf16")
    parser.add_argument("--layout", choices=("llama", "ik"), default="llama")
    options = parser.parse_args()
    config = json.loads((options.checkpoint / "config.json").read_text())
    checkpoint = Checkpoint(options.checkpoint)
    latents = "kv_lora_rank" in config
    writer = gguf.GGUFWriter(options.output, "deepseek2" if latents else "llama")
    add_metadata(writer, config)
    add_tensors(writer, checkpoint, config, options.type)
    if latents:
        add_deepseek_metadata(writer, config, options.layout)
        add_deepseek_tensors(writer, checkpoint, config, options.type, options.layout)
    else:
        add_llama_metadata(writer, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()


if __name__ == "__main__":
    main()
