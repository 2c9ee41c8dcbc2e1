"""Reads models/<case>/ once more, in NumPy and float64, straight from the papers' formulas and without transformers.

Prints for every case how far the golden logits are from the exact ones, which is what a float32 program may differ by,
and how far well-known mistakes are: a golden that does not notice a mistake which applies to it fails the check.
"""

import json
import math
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

HERE = Path(__file__).parent
FLOAT32_NOISE = 1e-4  # the largest difference of a logit that rounding may explain
NOTICEABLE = 1.0      # the smallest change of some logit that a mistake must cause


def load_tensors(folder: Path) -> dict[str, np.ndarray]:
    stored = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored |= load_file(file)
    tensors = {name: tensor.double().numpy() for name, tensor in stored.items()}
    for name in [name for name in tensors if name.endswith("_scale_inv")]:
        weight = tensors[name.replace("_scale_inv", "")]
        weight *= np.kron(tensors.pop(name), np.ones((128, 128)))[: weight.shape[0], : weight.shape[1]]
    if "embed_tokens.weight" in tensors:
        tensors = {name if name.startswith("lm_head") else "model." + name: tensor for name, tensor in tensors.items()}
    for name in [name for name in tensors if name.endswith("experts.gate_up_proj")]:
        at = name.removesuffix("gate_up_proj")
        for e, (gate_up, down) in enumerate(zip(tensors.pop(name), tensors.pop(at + "down_proj"))):
            gate, up = np.split(gate_up, 2)
            tensors |= {f"{at}{e}.gate_proj.weight": gate, f"{at}{e}.up_proj.weight": up, f"{at}{e}.down_proj.weight": down}
    return tensors


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def m(factor: float, x: float) -> float:
    return 0.1 * x * math.log(factor) + 1 if factor > 1 else 1.0


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """True for the k largest of each row."""
    return scores >= np.sort(scores, -1)[..., [-k]]


class Reference:
    """All families in one, since the checkpoint's own keys and tensors tell them apart. Shapes: t tokens, h heads, d head."""

    interleaved = None  # pairs (2i, 2i+1) for DeepSeek, (i, i + d/2) for the others

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text())
        self.w = load_tensors(folder)
        self.deepseek = self.config["model_type"].startswith("deepseek")
        self.v3 = self.config["model_type"] == "deepseek_v3"
        self.rope_settings = self.config.get("rope_parameters") or {
            "rope_theta": self.config["rope_theta"], **(self.config.get("rope_scaling") or {})}
        self.rope_type = self.rope_settings.get("rope_type") or self.rope_settings.get("type") or "default"
        if self.interleaved is None:
            self.interleaved = self.deepseek
        self.heads = self.config["num_attention_heads"]

    def norm(self, x, name, eps=None):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + (eps or self.config["rms_norm_eps"])) * self.w[name + ".weight"]

    def bias(self, name):
        return self.w.get(name + ".bias", 0.0)

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.bias(name)

    # rotary positions

    def frequencies(self, d):
        y, base = self.rope_settings, self.rope_settings["rope_theta"]
        f = base ** (-np.arange(0, d, 2) / d)
        if self.rope_type == "yarn":
            low, high = (d * math.log(y["original_max_position_embeddings"] / (2 * math.pi * y[beta])) / (2 * math.log(base))
                         for beta in ("beta_fast", "beta_slow"))
            low, high = max(math.floor(low), 0), min(math.ceil(high), d - 1)
            ramp = np.clip((np.arange(d // 2) - low) / (high - low), 0, 1)
            f = f * (1 - ramp) + f / y["factor"] * ramp
        if self.rope_type == "llama3":
            turns = y["original_max_position_embeddings"] * f / (2 * math.pi)
            keep = np.clip((turns - y["low_freq_factor"]) / (y["high_freq_factor"] - y["low_freq_factor"]), 0, 1)
            f = f * keep + f / y["factor"] * (1 - keep)
        return f

    def magnitude(self):
        y = self.rope_settings
        return m(y["factor"], y["mscale"]) / m(y["factor"], y["mscale_all_dim"]) if self.rope_type == "yarn" else 1.0

    def rotate(self, x):  # (t,h,d)
        t, _, d = x.shape
        angle = np.arange(t)[:, None, None] * self.frequencies(d)
        cos, sin = np.cos(angle) * self.magnitude(), np.sin(angle) * self.magnitude()
        first, second = (x[..., 0::2], x[..., 1::2]) if self.interleaved else (x[..., : d // 2], x[..., d // 2:])
        parts = first * cos - second * sin, second * cos + first * sin
        return np.stack(parts, -1).reshape(x.shape) if self.interleaved else np.concatenate(parts, -1)

    # attention

    def scale(self, d):
        y = self.rope_settings
        return d**-0.5 * (m(y["factor"], y["mscale_all_dim"]) ** 2 if self.rope_type == "yarn" else 1.0)

    def slides(self, layer):
        config, family = self.config, self.config["model_type"]
        if not config.get("sliding_window") or not config.get("use_sliding_window", not family.startswith("qwen")):
            return False
        if "layer_types" in config and family != "qwen3_moe":
            return config["layer_types"][layer] == "sliding_attention"
        if family == "qwen2_moe":
            return layer % 2 == 0 and layer < config["max_window_layers"]
        return family not in ("qwen2", "qwen3") or layer >= config["max_window_layers"]

    def window(self):
        return self.config["sliding_window"]

    def visible(self, t, layer):
        causal = np.tril(np.ones((t, t), bool))
        return causal & ~np.tril(causal, -self.window()) if self.slides(layer) else causal

    def spread_over_heads(self, x):
        return x.repeat(self.heads // x.shape[1], axis=1)

    def gqa_heads(self, x, at):
        q, k, v = (self.linear(x, at + f"{letter}_proj").reshape(len(x), heads, -1) for letter, heads in
                   zip("qkv", (self.heads, self.config["num_key_value_heads"], self.config["num_key_value_heads"])))
        if at + "q_norm.weight" in self.w:
            q, k = self.norm(q, at + "q_norm"), self.norm(k, at + "k_norm")
        return self.rotate(q), self.spread_over_heads(self.rotate(k)), self.spread_over_heads(v)

    def split_kv_b(self, kv):
        nope = self.config["qk_nope_head_dim"]
        return kv[..., :nope], kv[..., nope:]

    def latent_norm(self, x, name):
        return self.norm(x, name, 1e-6)  # whatever rms_norm_eps says: DeepSeek's code does not pass it on here

    def mla_heads(self, x, at):
        nope, rank, t = self.config["qk_nope_head_dim"], self.config["kv_lora_rank"], len(x)
        if at + "q_proj.weight" in self.w:
            q = self.linear(x, at + "q_proj")
        else:
            q = self.linear(self.latent_norm(self.linear(x, at + "q_a_proj"), at + "q_a_layernorm"), at + "q_b_proj")
        q = q.reshape(t, self.heads, -1)
        latent = self.linear(x, at + "kv_a_proj_with_mqa")
        shared = self.rotate(latent[:, None, rank:])
        kv = self.linear(self.latent_norm(latent[:, :rank], at + "kv_a_layernorm"), at + "kv_b_proj").reshape(t, self.heads, -1)
        k, v = self.split_kv_b(kv)
        return (np.concatenate([q[..., :nope], self.rotate(q[..., nope:])], -1),
                np.concatenate([k, shared.repeat(self.heads, 1)], -1), v)

    def attention(self, x, at):
        q, k, v = (self.mla_heads if self.deepseek else self.gqa_heads)(x, at)
        scores = np.einsum("thd,shd->hts", q, k) * self.scale(q.shape[-1])
        p = softmax(np.where(self.visible(len(x), int(at.split(".")[-3])), scores, -np.inf))
        return self.linear(np.einsum("hts,shd->thd", p, v).reshape(len(x), -1), at + "o_proj")

    # feed-forward

    def swiglu(self, x, at, gate="gate_proj", up="up_proj", down="down_proj"):
        g = self.linear(x, at + gate)
        return self.linear(g * sigmoid(g) * self.linear(x, at + up), at + down)

    masked = -np.inf

    def group_score(self, groups):
        return np.sort(groups, -1)[..., -2:].sum(-1) if self.v3 else groups.max(-1)

    def weights_of(self, scores, choice):
        return scores

    def normalised(self):
        return self.config["model_type"] == "mixtral" or self.config.get("norm_topk_prob", False)

    def routed_scale(self):
        return self.config.get("routed_scaling_factor", 1.0)

    def route(self, x, at):
        """Weights (t,E), zero for the experts that are not chosen."""
        logits = self.linear(x, at + "gate")
        scores = sigmoid(logits) if self.v3 else softmax(logits)
        choice = scores + self.w[at + "gate.e_score_correction_bias"] if self.v3 else scores
        if self.v3 or self.config.get("topk_method") == "group_limited_greedy":
            groups = choice.reshape(len(x), self.config["n_group"], -1)
            kept = top(self.group_score(groups), self.config["topk_group"])
            choice = np.where(kept[..., None], groups, self.masked).reshape(choice.shape)
        chosen = top(choice, self.config["num_experts_per_tok"])
        weights = np.where(chosen, self.weights_of(scores, choice), 0)
        if self.normalised():
            weights = weights / (weights.sum(-1, keepdims=True) + 1e-20)
        return weights * self.routed_scale()

    def shared_gate(self, x, at):
        return sigmoid(self.linear(x, at + "shared_expert_gate"))

    def shared(self, x, at):
        if at + "shared_expert_gate.weight" in self.w:
            return self.shared_gate(x, at) * self.swiglu(x, at + "shared_expert.")
        return self.swiglu(x, at + "shared_experts.") if at + "shared_experts.gate_proj.weight" in self.w else 0.0

    def feed_forward(self, x, at):
        mixtral = at + "block_sparse_moe."
        if mixtral + "gate.weight" in self.w:
            return sum(w[:, None] * self.swiglu(x, f"{mixtral}experts.{e}.", "w1", "w3", "w2")
                       for e, w in enumerate(self.route(x, mixtral).T))
        if at + "mlp.gate.weight" not in self.w:
            return self.swiglu(x, at + "mlp.")
        return self.shared(x, at + "mlp.") + sum(
            w[:, None] * self.swiglu(x, f"{at}mlp.experts.{e}.") for e, w in enumerate(self.route(x, at + "mlp.").T))

    def logits(self, tokens):
        x = self.w["model.embed_tokens.weight"][tokens]
        for layer in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            x = x + self.attention(self.norm(x, at + "input_layernorm"), at + "self_attn.")
            x = x + self.feed_forward(self.norm(x, at + "post_attention_layernorm"), at)
        head = "model.embed_tokens" if self.config["tie_word_embeddings"] else "lm_head"
        return self.linear(self.norm(x, "model.norm"), head)


# Mistakes -------------------------------------------------------------------------------------------------------------

class WithoutScale(Reference):
    def scale(self, d): return 1.0

class LatentScale(Reference):
    """The absorbed head's width instead of the head's."""
    def scale(self, d): return super().scale(d) * (d / (self.config["kv_lora_rank"] + self.config["qk_rope_head_dim"])) ** 0.5

class OtherRopeLayout(Reference):
    def __init__(self, folder):
        super().__init__(folder)
        self.interleaved = not self.interleaved

class WithoutRopeScaling(Reference):
    def frequencies(self, d): return self.rope_settings["rope_theta"] ** (-np.arange(0, d, 2) / d)

class WithoutMscaleInScores(Reference):
    def scale(self, d): return d**-0.5

class MscaleForMscaleAllDim(Reference):
    def scale(self, d): return d**-0.5 * m(self.rope_settings["factor"], self.rope_settings["mscale"]) ** 2

class WithoutMagnitude(Reference):
    def magnitude(self): return 1.0

class SeesTheFuture(Reference):
    def visible(self, t, layer): return super().visible(t, layer) | np.eye(t, k=1, dtype=bool)

class WithoutWindow(Reference):
    def slides(self, layer): return False

class WindowOneLonger(Reference):
    def window(self): return super().window() + 1

class OtherLayersSlide(Reference):
    def slides(self, layer): return not super().slides(layer)

class HeadsInterleavedOverGroups(Reference):
    """Query head h reads key head h mod G instead of h div (H/G)."""
    def spread_over_heads(self, x): return np.tile(x, (1, self.heads // x.shape[1], 1))

class WithoutHeadNorm(Reference):
    def norm(self, x, name, eps=None):
        return x if name.endswith(("q_norm", "k_norm")) else super().norm(x, name, eps)

class WithoutLatentNorm(Reference):
    def latent_norm(self, x, name): return x

class ValuesBeforeKeys(Reference):
    def split_kv_b(self, kv):
        nope = self.config["qk_nope_head_dim"]
        return kv[..., -nope:], kv[..., :-nope]

class GroupsMaskedWithZero(Reference):
    masked = 0.0

class OtherGroupScore(Reference):
    def group_score(self, groups): return groups.max(-1) if self.v3 else np.sort(groups, -1)[..., -2:].sum(-1)

class BiasInWeights(Reference):
    def weights_of(self, scores, choice): return choice

class OtherNormalisation(Reference):
    def normalised(self): return not super().normalised()

class WithoutRoutedScale(Reference):
    def routed_scale(self): return 1.0

class WithoutSharedExperts(Reference):
    def shared(self, x, at): return 0.0

class WithoutSharedGate(Reference):
    def shared_gate(self, x, at): return 1.0

class WithoutBiases(Reference):
    def bias(self, name): return 0.0

class WithoutKeyBias(Reference):
    def bias(self, name): return 0.0 if name.endswith("k_proj") or "kv_a" in name else super().bias(name)


def mistakes_for(reference: Reference) -> list[type]:
    config, moe = reference.config, any("experts." in name for name in reference.w)
    groups = config.get("topk_method") == "group_limited_greedy" or reference.v3
    slides = any(map(reference.slides, range(config["num_hidden_layers"])))
    grouped_heads = 1 < config["num_key_value_heads"] < reference.heads
    applies = {
        WithoutScale: True, SeesTheFuture: True, OtherRopeLayout: True,
        WithoutRopeScaling: reference.rope_type != "default",
        WithoutMscaleInScores: reference.rope_type == "yarn", MscaleForMscaleAllDim: reference.rope_type == "yarn",
        WithoutMagnitude: reference.rope_type == "yarn",
        WithoutWindow: slides, WindowOneLonger: slides, OtherLayersSlide: slides,
        HeadsInterleavedOverGroups: grouped_heads, WithoutHeadNorm: config["model_type"].startswith("qwen3"),
        LatentScale: reference.deepseek, WithoutLatentNorm: reference.deepseek,
        ValuesBeforeKeys: reference.deepseek and config.get("v_head_dim") != config.get("qk_nope_head_dim"),
        GroupsMaskedWithZero: any(name.endswith("_bias") and value.max() < 0 for name, value in reference.w.items()),
        OtherGroupScore: moe and groups, BiasInWeights: moe and reference.v3, OtherNormalisation: moe,
        WithoutRoutedScale: moe and config.get("routed_scaling_factor", 1.0) != 1.0,
        WithoutSharedExperts: any("shared_expert" in name for name in reference.w),
        WithoutSharedGate: any("shared_expert_gate" in name for name in reference.w),
        WithoutBiases: any(name.endswith(".bias") for name in reference.w),
        WithoutKeyBias: any(name.endswith(".bias") for name in reference.w),
    }
    return [mistake for mistake, here in applies.items() if here]


def check(folder: Path) -> None:
    tokens, golden = np.load(folder / "tokens.npy"), np.load(folder / "logits.npy")
    reference = Reference(folder)
    noise = np.abs(reference.logits(tokens) - golden).max()
    effects = {mistake.__name__: np.abs(mistake(folder).logits(tokens) - golden).max() for mistake in mistakes_for(reference)}
    least = min(effects, key=effects.get)
    print(f"{folder.name:32} {noise:.1e} from float64; {len(effects)} mistakes, least noticed {least} {effects[least]:.2f}")
    assert noise < FLOAT32_NOISE and effects[least] > NOTICEABLE


def main() -> None:
    for folder in sorted((HERE / "models").iterdir()):
        check(folder)


if __name__ == "__main__":
    main()
