"""tiny-gqa: a Llama-shaped model with grouped-query attention, names as in Hugging Face transformers."""

import torch
import torch.nn.functional as F
from torch import nn

from layers import RMSNorm, SwiGLU, causal_attention, initialise, inverse_frequencies, linear, rotation_table


def rotate_half(x, cos, sin):
    """Llama's RoPE: component i turns with component i + D/2. x (B,T,H,D), cos and sin (T,D/2)."""
    first, second = x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.head_dim = config["head_dim"]
        self.groups = config["num_attention_heads"] // config["num_key_value_heads"]
        hidden = config["hidden_size"]
        self.q_proj = linear(hidden, config["num_attention_heads"] * self.head_dim)
        self.k_proj = linear(hidden, config["num_key_value_heads"] * self.head_dim)
        self.v_proj = linear(hidden, config["num_key_value_heads"] * self.head_dim)
        self.o_proj = linear(config["num_attention_heads"] * self.head_dim, hidden)

    def forward(self, x, cos, sin):
        queries, keys, values = (project(x).unflatten(-1, (-1, self.head_dim))
                                 for project in (self.q_proj, self.k_proj, self.v_proj))
        queries, keys = rotate_half(queries, cos, sin), rotate_half(keys, cos, sin)
        # Query head h reads the keys of head h // groups.
        keys, values = (t.repeat_interleave(self.groups, dim=2) for t in (keys, values))
        return self.o_proj(causal_attention(queries, keys, values, self.head_dim ** -0.5))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, epsilon = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = RMSNorm(hidden, epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(hidden, epsilon)
        self.mlp = SwiGLU(hidden, config["intermediate_size"])

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class GqaModel(nn.Module):
    """Token ids (B,T) -> logits (B,T,V). The embedding is the output matrix too."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        initialise(self, config["num_hidden_layers"], config["hidden_size"])

    def forward(self, ids):
        cos, sin = rotation_table(inverse_frequencies(self.config["head_dim"], self.config["rope_theta"]), ids.shape[1])
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)

    def mixtures(self):
        return []

    def hugging_face_state(self):
        return {"model." + name: value for name, value in self.state_dict().items()}
