"""tiny-mla: a DeepSeek-V3-shaped model, multi-head latent attention and a mixture of experts."""

import math

import torch
from torch import nn

from layers import RMSNorm, SwiGLU, causal_attention, initialise, inverse_frequencies, linear, rotation_table
from mixture import Mixture


def rotate_pairs(x, cos, sin):
    """DeepSeek's RoPE: components 2i and 2i+1 turn together. x (B,T,H,P), cos and sin (T,P/2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)


def yarn_frequencies(dimension, theta, scaling):
    """Slow pairs are stretched by the factor, fast ones stay, a ramp in between (YaRN, arXiv:2309.00071)."""
    frequencies = inverse_frequencies(dimension, theta)
    if scaling is None:
        return frequencies

    def pair_with(rotations):
        length = scaling["original_max_position_embeddings"]
        return dimension * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_with(scaling["beta_fast"])), 0)
    high = min(math.ceil(pair_with(scaling["beta_slow"])), dimension - 1)
    stretched = ((torch.arange(dimension // 2, dtype=torch.float64) - low) / max(high - low, 1e-3)).clamp(0, 1)
    return frequencies / scaling["factor"] * stretched + frequencies * (1 - stretched)


def softmax_scale(config, scaling):
    scale = (config["qk_nope_head_dim"] + config["qk_rope_head_dim"]) ** -0.5
    if scaling and scaling["mscale_all_dim"]:
        scale *= (0.1 * scaling["mscale_all_dim"] * math.log(scaling["factor"]) + 1) ** 2
    return scale


class LatentAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["rms_norm_eps"]
        nope, rope, value = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        self.q_a_proj = linear(hidden, config["q_lora_rank"])
        self.q_a_layernorm = RMSNorm(config["q_lora_rank"], epsilon)
        self.q_b_proj = linear(config["q_lora_rank"], heads * (nope + rope))
        self.kv_a_proj_with_mqa = linear(hidden, config["kv_lora_rank"] + rope)
        self.kv_a_layernorm = RMSNorm(config["kv_lora_rank"], epsilon)
        self.kv_b_proj = linear(config["kv_lora_rank"], heads * (nope + value))
        self.o_proj = linear(heads * value, hidden)

    def forward(self, x, cos, sin, scale):
        config = self.config
        nope, rope, value = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        queries = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).unflatten(-1, (-1, nope + rope))
        query_nope, query_rope = queries.split([nope, rope], -1)
        latent, key_rope = self.kv_a_proj_with_mqa(x).split([config["kv_lora_rank"], rope], -1)
        expanded = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (-1, nope + value))
        key_nope, values = expanded.split([nope, value], -1)
        # One rotated key part serves all heads: it is what the latent cannot carry, because it knows its position.
        key_rope = rotate_pairs(key_rope[:, :, None], cos, sin).expand(*key_nope.shape[:3], rope)
        queries = torch.cat((query_nope, rotate_pairs(query_rope, cos, sin)), -1)
        keys = torch.cat((key_nope, key_rope), -1)
        # Equal head sizes let PyTorch use its fused kernel; the padding adds zeros and is cut off again.
        padded = nn.functional.pad(values, (0, nope + rope - value))
        mixed = causal_attention(queries, keys, padded, scale).unflatten(-1, (-1, nope + rope))
        return self.o_proj(mixed[..., :value].flatten(2))


class Block(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        hidden, epsilon = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = RMSNorm(hidden, epsilon)
        self.self_attn = LatentAttention(config)
        self.post_attention_layernorm = RMSNorm(hidden, epsilon)
        dense = index < config["first_k_dense_replace"]
        self.mlp = SwiGLU(hidden, config["intermediate_size"]) if dense else Mixture(config)

    def forward(self, x, *rotation_and_scale):
        x = x + self.self_attn(self.input_layernorm(x), *rotation_and_scale)
        return x + self.mlp(self.post_attention_layernorm(x))


class MlaModel(nn.Module):
    """Token ids (B,T) -> logits (B,T,V). `scaling` is YaRN's, None before the context is stretched."""

    def __init__(self, config, scaling="config"):
        super().__init__()
        self.config = config
        self.scaling = config["rope_scaling"] if scaling == "config" else scaling
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Block(config, index) for index in range(config["num_hidden_layers"]))
        self.norm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.lm_head = linear(config["hidden_size"], config["vocab_size"])
        initialise(self, config["num_hidden_layers"], config["hidden_size"])

    def forward(self, ids):
        config = self.config
        frequencies = yarn_frequencies(config["qk_rope_head_dim"], config["rope_theta"], self.scaling)
        cos, sin = rotation_table(frequencies, ids.shape[1])
        scale = softmax_scale(config, self.scaling)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin, scale)
        return self.lm_head(self.norm(x))

    def mixtures(self):
        return [layer.mlp for layer in self.layers if isinstance(layer.mlp, Mixture)]

    def hugging_face_state(self):
        """Each stacked expert tensor becomes one tensor per expert."""
        state = {}
        for name, value in self.state_dict().items():
            block, _, part = name.rpartition(".")
            if part in ("expert_gate", "expert_up", "expert_down"):
                for expert, weight in enumerate(value):
                    state[f"model.{block}.experts.{expert}.{part.removeprefix('expert_')}_proj.weight"] = weight
            elif part == "gate":
                state[f"model.{name}.weight"] = value
            elif part == "bias":
                state[f"model.{block}.gate.e_score_correction_bias"] = value
            else:
                state[name if name.startswith("lm_head") else "model." + name] = value
        return state
