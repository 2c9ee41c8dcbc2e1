#!/usr/bin/env python3
"""torch_lite4.py CHECKPOINT [--dtype bf16] [--threads 1] (--prefill P | --depth D --new-tokens N | --tokens 1,2,3 --output F.npy)

DeepSeek-V2-Lite by hand in PyTorch, batch 1, the way one would write it for speed: absorbed attention at decode, expanded
attention for a prompt, gate and up in one matrix, a loop over chosen experts only. One JSON object on standard output.

With --depth the D cached rows are random numbers, since what they say costs nothing; --tokens instead gives the logits of
the last token, fed one by one after a prompt of all but two tokens, to be compared with another engine.
"""
import argparse
import json
import math
import mmap
import pathlib
import time

import torch
from torch.nn.functional import linear, silu

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


class Checkpoint:
    def __init__(self, directory: pathlib.Path):
        self.config = json.loads((directory / "config.json").read_text())
        with open(directory / "model.safetensors", "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        length = int.from_bytes(self.bytes[:8], "little")
        self.entries = json.loads(self.bytes[8 : 8 + length])
        self.start = 8 + length

    def tensor(self, name: str) -> torch.Tensor:
        entry = self.entries[name]
        assert entry["dtype"] == "BF16", (name, entry["dtype"])
        first, last = entry["data_offsets"]
        return torch.frombuffer(self.bytes, dtype=torch.bfloat16, count=(last - first) // 2, offset=self.start + first).view(entry["shape"])


class SwiGLU:
    def __init__(self, take, at: str):
        self.gate_up = torch.cat([take(at + "gate_proj.weight"), take(at + "up_proj.weight")])
        self.down = take(at + "down_proj.weight")

    def __call__(self, x):
        gate, up = product(x, self.gate_up).chunk(2, dim=-1)
        return product(silu(gate) * up, self.down)


def product(x, weight):
    """x W^T. A CPU without bf16 instructions multiplies many rows far faster when the weights are widened first."""
    if x.shape[0] >= 8 and weight.dtype != torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return linear(x.float(), weight.float()).to(x.dtype)
    return linear(x, weight)


def rms_norm(x, weight, epsilon):
    return torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, epsilon)


class Rope:
    """YaRN over interleaved pairs."""

    def __init__(self, config: dict, positions: int):
        yarn, base, width = config["rope_scaling"], config["rope_theta"], config["qk_rope_head_dim"]
        plain = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)

        def pair_of(turns):
            return width * math.log(yarn["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = max(math.floor(pair_of(yarn["beta_fast"])), 0), min(math.ceil(pair_of(yarn["beta_slow"])), width - 1)
        stretched = ((torch.arange(width // 2, dtype=torch.float64) - low) / max(high - low, 0.001)).clamp(0, 1)
        angles = torch.outer(torch.arange(positions, dtype=torch.float64), plain * (1 - stretched) + plain / yarn["factor"] * stretched)
        self.turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)  # mscale / mscale_all_dim is 1

    def __call__(self, x, start: int):
        """x (T,H,P), at positions start ... start+T-1"""
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.turns[start : start + x.shape[0], None]).flatten(-2).to(x.dtype)


class Layer:
    def __init__(self, take, layer: int, config: dict, rope: Rope, capacity: int):
        at = f"model.layers.{layer}."
        self.heads, self.rank = config["num_attention_heads"], config["kv_lora_rank"]
        self.plain, self.value = config["qk_nope_head_dim"], config["v_head_dim"]
        self.epsilon, self.chosen, self.rope = config["rms_norm_eps"], config["num_experts_per_tok"], rope
        self.before_attention = take(at + "input_layernorm.weight")
        self.before_mixture = take(at + "post_attention_layernorm.weight")
        self.query_row = torch.cat([take(at + "self_attn.q_proj.weight"), take(at + "self_attn.kv_a_proj_with_mqa.weight")])
        self.latent_norm = take(at + "self_attn.kv_a_layernorm.weight")
        expand = take(at + "self_attn.kv_b_proj.weight").view(self.heads, self.plain + self.value, self.rank)
        self.expand = expand
        self.expand_keys = expand[:, : self.plain].contiguous()  # (H,D,R)
        self.expand_values = expand[:, self.plain :].transpose(1, 2).contiguous()  # (H,R,D)
        self.output = take(at + "self_attn.o_proj.weight")
        yarn = config["rope_scaling"]
        mscale = 1 + 0.1 * yarn["mscale_all_dim"] * math.log(yarn["factor"])
        self.scale = mscale**2 / math.sqrt(self.plain + config["qk_rope_head_dim"])
        self.rows = torch.randn(capacity, self.rank + config["qk_rope_head_dim"]).to(self.output.dtype)  # (C,R+P): the cache
        if layer < config["first_k_dense_replace"]:
            self.experts, self.dense = None, SwiGLU(take, at + "mlp.")
        else:
            self.router = take(at + "mlp.gate.weight").float()
            self.experts = [SwiGLU(take, f"{at}mlp.experts.{e}.") for e in range(config["n_routed_experts"])]
            self.dense = SwiGLU(take, at + "mlp.shared_experts.")

    def __call__(self, x, start: int):
        x = x + self.attend(rms_norm(x, self.before_attention, self.epsilon), start)
        x_normed = rms_norm(x, self.before_mixture, self.epsilon)
        out = x + self.dense(x_normed)
        return out if self.experts is None else out + self.mix(x_normed)

    def attend(self, x, start: int):
        count = x.shape[0]
        end = start + count
        queries, latents, shared = product(x, self.query_row).split(
            [self.heads * self.scores_width, self.rank, self.rows.shape[1] - self.rank], dim=-1)
        queries = queries.view(count, self.heads, self.scores_width)
        plain, rotated = queries[..., : self.plain], self.rope(queries[..., self.plain :], start)
        self.rows[start:end, : self.rank] = rms_norm(latents, self.latent_norm, self.epsilon)
        self.rows[start:end, self.rank :] = self.rope(shared[:, None], start)[:, 0]
        rows = self.rows[:end]
        if count == 1:  # absorbed
            query = torch.cat([torch.bmm(plain.transpose(0, 1), self.expand_keys)[:, 0], rotated[0]], dim=-1)  # (H,R+P)
            weights = torch.softmax(query @ rows.T * self.scale, dim=-1, dtype=torch.float32).to(rows.dtype)
            values = torch.bmm((weights @ rows[:, : self.rank])[:, None], self.expand_values)  # (H,1,D)
            return product(values.reshape(1, -1), self.output)
        # expanded: fewer operations when there are as many queries as keys
        expanded = product(rows[:, : self.rank], self.expand.flatten(0, 1)).view(end, self.heads, -1)
        keys = torch.cat([expanded[..., : self.plain], rows[:, None, self.rank :].expand(-1, self.heads, -1)], dim=-1)
        queries = torch.cat([plain, rotated], dim=-1)
        scores = torch.einsum("thd,shd->hts", queries.float(), keys.float()) * self.scale
        future = torch.ones(count, end, dtype=torch.bool).triu(start + 1)
        weights = torch.softmax(scores.masked_fill_(future, -math.inf), dim=-1)
        values = torch.einsum("hts,shd->thd", weights, expanded[..., self.plain :].float())
        return product(values.reshape(count, -1).to(x.dtype), self.output)

    @property
    def scores_width(self):
        return self.plain + self.rows.shape[1] - self.rank

    def mix(self, x):
        weights, chosen = torch.softmax(linear(x.float(), self.router), dim=-1).topk(self.chosen, dim=-1)
        weights = weights.to(x.dtype)
        if x.shape[0] == 1:
            return sum(weight * self.experts[e](x) for weight, e in zip(weights[0], chosen[0].tolist()))
        out = torch.zeros_like(x)
        for e in chosen.unique().tolist():
            tokens, places = (chosen == e).nonzero(as_tuple=True)
            out.index_add_(0, tokens, weights[tokens, places, None] * self.experts[e](x[tokens]))
        return out


class Model:
    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, capacity: int):
        def take(name):
            return checkpoint.tensor(name).to(dtype, copy=True)

        config = checkpoint.config
        rope = Rope(config, capacity)
        self.epsilon = config["rms_norm_eps"]
        self.embedding, self.norm, self.head = (
            take("model.embed_tokens.weight"), take("model.norm.weight"), take("lm_head.weight"))
        self.layers = [Layer(take, layer, config, rope, capacity) for layer in range(config["num_hidden_layers"])]

    def __call__(self, tokens: list[int], start: int):
        """Logits of the last token; tokens stand at start, start+1, ..."""
        x = self.embedding[tokens]
        for layer in self.layers:
            x = layer(x, start)
        return product(rms_norm(x[-1:], self.norm, self.epsilon), self.head)[0]


def random_tokens(count: int, vocabulary: int) -> list[int]:
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(1)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prefill", type=int)
    parser.add_argument("--depth", type=int)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--tokens")
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    checkpoint = Checkpoint(options.checkpoint)
    vocabulary = checkpoint.config["vocab_size"]
    result = {"version": torch.__version__, "dtype": options.dtype, "threads": options.threads}
    with torch.inference_mode():
        if options.tokens:
            import numpy

            tokens = [int(word) for word in options.tokens.split(",")]
            model = Model(checkpoint, DTYPES[options.dtype], len(tokens))
            model(tokens[:-2], 0)
            logits = [model([tokens[p]], p) for p in (len(tokens) - 2, len(tokens) - 1)][-1]
            numpy.save(options.output, logits.float().numpy())
        elif options.prefill:
            model = Model(checkpoint, DTYPES[options.dtype], options.prefill)
            tokens = random_tokens(options.prefill, vocabulary)
            model(tokens, 0)  # warms up
            start = time.perf_counter()
            model(tokens, 0)
            result["prefill_tokens_per_s"] = options.prefill / (time.perf_counter() - start)
        else:
            warm_up = 4
            model = Model(checkpoint, DTYPES[options.dtype], options.depth + options.new_tokens + warm_up)
            for token in random_tokens(warm_up, vocabulary):
                model([token], options.depth)
            tokens = random_tokens(options.new_tokens, vocabulary)
            start = time.perf_counter()
            for position, token in enumerate(tokens, options.depth):
                model([token], position).argmax().item()
            result["decode_tokens_per_s"] = options.new_tokens / (time.perf_counter() - start)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
