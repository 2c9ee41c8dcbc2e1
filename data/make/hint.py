"""A head start for retrieval: heads that look one and two tokens back exist before training begins.

To fetch a fact a model needs induction (Olsson et al. 2022, arXiv:2209.11895): one head stores with each token
what came before it, a later head looks for "where was I at this point before?" and copies what followed. A small
model finds this circuit late or never. Here the first half of it is built in, through RoPE alone: all embeddings
share one constant direction, a query and a key that read only this direction depend only on positions, and the
query is turned by the wished distance. Training is free to change everything.
"""

import torch


def unit(size):
    direction = torch.randn(size)
    return direction / direction.norm()


def share_direction(embedding):
    """Move half of the embeddings' energy into one constant direction; returns that direction."""
    direction = unit(embedding.shape[1])
    length = embedding.std() * embedding.shape[1] ** 0.5
    embedding -= torch.outer(embedding @ direction, direction)
    embedding += length * direction
    return direction


def orthonormal_rows(rows, direction):
    """Random orthonormal rows that do not see the constant direction."""
    matrix = torch.randn(rows + 1, len(direction))
    matrix[0] = direction
    return torch.linalg.qr(matrix.T)[0].T[1:]


@torch.no_grad()
def hint_gqa(model, frequencies):
    """Layer 0: query heads 0 and 1 look one and two back. Layer 1: heads that compare what they stored.

    A normalised row has about sqrt(hidden / 2) of its length along the constant direction, hence `reader`.
    """
    config, size = model.config, model.config["head_dim"]
    half, groups = size // 2, config["num_attention_heads"] // config["num_key_value_heads"]
    first, second = model.layers[0].self_attn, model.layers[1].self_attn
    direction = share_direction(model.embed_tokens.weight)
    reader = direction * (2 / config["hidden_size"]) ** 0.5

    gains = torch.zeros(half)
    gains[:3] = torch.tensor([9.0, 9.0, 4.5])
    first.k_proj.weight[:size] *= 0.3
    first.k_proj.weight[:half] += torch.outer(4.0 * torch.ones(half), reader)
    for head, distance in ((0, 1), (1, 2)):
        rows = first.q_proj.weight[head * size:(head + 1) * size]
        angles = frequencies.float() * -distance
        rows *= 0.3
        rows += torch.outer(torch.cat((gains * angles.cos(), gains * angles.sin())), reader)

    # What a token is, as seen by the heads, and the two places where its predecessors are written.
    token = orthonormal_rows(size, direction)                                   # (D,M)
    one_back, two_back = orthonormal_rows(2 * size, direction).split(size)      # (D,M) each
    first.v_proj.weight[:size] = token
    first.o_proj.weight[:, :size] = 0.12 * one_back.T
    first.o_proj.weight[:, size:2 * size] = 0.12 * two_back.T

    # Slow pairs hardly turn within the context, so they can compare content: dimensions i and i + D/2, i >= D/4.
    slow = [*range(half // 2, half), *range(half + half // 2, size)]
    match = 2.2 * torch.eye(size)[:, slow] @ torch.eye(size)[slow]              # selects rows
    second.q_proj.weight[:size] = match @ token                                 # I am this token ...
    second.k_proj.weight[:size] = match @ one_back                              # ... who came after it before?
    second.q_proj.weight[groups * size:(groups + 1) * size] = match @ one_back
    second.k_proj.weight[size:2 * size] = match @ two_back
    for head in (0, groups):                                                    # copy what followed
        kv = head // groups
        second.v_proj.weight[kv * size:(kv + 1) * size] = token
        second.o_proj.weight[:, head * size:(head + 1) * size] = 0.12 * token.T


@torch.no_grad()
def hint_mla(model, frequencies):
    """The same two layers for latent attention: positions through the decoupled RoPE part, content through the rest."""
    config = model.config
    nope, rope, latent, value = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "kv_lora_rank", "v_head_dim"))
    first, second = model.layers[0].self_attn, model.layers[1].self_attn
    direction = share_direction(model.embed_tokens.weight)
    reader = direction * (2 / config["hidden_size"]) ** 0.5
    model.lm_head.weight.copy_(model.embed_tokens.weight)        # copying a token's vector predicts the token

    first.q_a_proj.weight[0] = 4.0 * reader                      # latent query component 0 is (nearly) constant
    key_rope = first.kv_a_proj_with_mqa.weight[latent:]
    key_rope *= 0.3
    key_rope[::2] += 1.5 * reader                                # every pair of the key points at angle 0
    gains = torch.zeros(rope // 2)
    gains[:3] = torch.tensor([8.0, 8.0, 4.0])
    queries = first.q_b_proj.weight.unflatten(0, (-1, nope + rope))
    for head, distance in ((0, 1), (1, 2)):
        angles = frequencies.float() * -distance
        queries[head] *= 0.3
        queries[head, nope::2, 0] += gains * angles.cos()
        queries[head, nope + 1::2, 0] += gains * angles.sin()

    # Layer 0 stores the two predecessors: token -> latent 0..31 -> values of heads 0 and 1 -> two places of the stream.
    token = orthonormal_rows(value, direction)                                          # (D,M)
    one_back, two_back = orthonormal_rows(2 * value, direction).split(value)            # (D,M) each
    first.kv_a_proj_with_mqa.weight[:value] = token
    expanded = first.kv_b_proj.weight.unflatten(0, (-1, nope + value))
    for head, place in ((0, one_back), (1, two_back)):
        expanded[head, nope:] = torch.eye(value, latent)
        first.o_proj.weight[:, head * value:(head + 1) * value] = 0.08 * place.T

    # Layer 1 compares: its latent is 20 components one back, 20 two back and 24 of the token itself.
    width, rest = 20, latent - 40
    second.q_a_proj.weight[:2 * width] = torch.cat((token[:width], one_back[:width]))
    second.kv_a_proj_with_mqa.weight[:latent] = torch.cat((one_back[:width], two_back[:width], token[:rest]))
    queries = second.q_b_proj.weight.unflatten(0, (-1, nope + rope))
    expanded = second.kv_b_proj.weight.unflatten(0, (-1, nope + value))
    for head, offset in ((0, 0), (1, width)):
        queries[head] *= 0.3
        queries[head, :width, offset:offset + width] += 1.9 * torch.eye(width)
        expanded[head, :width, offset:offset + width] += 1.9 * torch.eye(width)
        expanded[head, nope:nope + rest, 2 * width:] = torch.eye(rest)
        second.o_proj.weight[:, head * value:head * value + rest] = 0.1 * token[:rest].T
