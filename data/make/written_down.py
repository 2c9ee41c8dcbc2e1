"""Two models that nobody trained: every weight is written down here, and there for a reason.

    python data/make/written_down.py data     # writes data/needle, data/needle-mla; numpy is enough

They continue a text with what followed its last token when it stood there before. Two heads do it,
one behind the other, as trained models do (there they are called induction heads):

layer 0   looks one position back and writes down which token stands there
layer 1   looks for the row that has written down the current token: the one after its earlier
          occurrence. The token of that row is the answer

A hidden state has named places: content, the code of the token itself; previous, the code of the
token before it, from layer 0; answer, the code of the next token, from layer 1; and one number that
is the same in every row. A code is a row of signs, and no two tokens agree in so many of them that
even 131,072 rows together could be taken for the right one.

Where rotary embedding turns all of a key (Llama), a pair of numbers that turns fast tells positions
apart and is useless for content; one that turns by less than a tenth of a radian in the whole
context is useless for positions and fit for content. So layer 0 uses the fast pairs and layer 1 the
slow ones. In DeepSeek's attention only a part of a key is turned, and content has the rest.
"""

import argparse
import json
import pathlib

import numpy as np

CONTEXT = 131072
VOCABULARY = ["<|bos|>", "<|eos|>"]        # and the 256 bytes
FEED_FORWARD_WIDTH = 16                    # all zeros: attention does all the work
LOOK_BACK, MATCH = 120, 60                 # score of the row that is looked for; chance gives 0
ANSWER_LOGIT = 20                          # likewise, of the token
FAST, SLOW = 0.01, 0.1 / CONTEXT           # radians per position: at least, at most


# ---- codes and places ----


def codes(count, width):
    """Rows of signs. Any two agree in at most 70% of the places; half is what chance gives."""
    random, rows = np.random.RandomState(0), []
    while len(rows) < count:
        row = random.choice([-1.0, 1.0], width)
        if all(row @ other <= 0.4 * width for other in rows):
            rows.append(row)
    return np.array(rows)


class Places:
    """Which columns of the hidden state hold what, and by how much the norm has shrunk a row."""

    def __init__(self, code_width, hidden_width):
        self.content, self.previous, self.answer = np.arange(3 * code_width).reshape(3, code_width)
        self.one = 3 * code_width
        self.one_value = code_width ** 0.5     # then ONE weighs as much as a code
        self.code_width, self.hidden_width = code_width, hidden_width

    def rms(self, parts):
        """The number by which a row of `parts` codes (ONE counts as one) is divided."""
        return (parts * self.code_width / self.hidden_width) ** 0.5


def place(rows, columns, values, shape):
    """A matrix of zeros but for these."""
    matrix = np.zeros(shape)
    matrix[rows, columns] = values
    return matrix


# ---- one position back ----


def look_back(frequencies, key_width):
    """Pairs for the query and for the key. Turned to position t, the query points to where a key of
    position t-1 does: row s scores LOOK_BACK times the mean of cos((t - 1 - s) * frequency), which
    comes near 1 for no other s."""
    strength = (LOOK_BACK * key_width ** 0.5 / len(frequencies)) ** 0.5
    query = strength * np.array([np.cos(frequencies), -np.sin(frequencies)])
    key = strength * np.array([np.ones_like(frequencies), np.zeros_like(frequencies)])
    return query, key


# ---- the two models ----


def frequencies(theta, width):
    return theta ** (-np.arange(0, width, 2) / width)


def shared_tensors(places, code):
    """Embedding, output matrix, norms, and feed-forward halves that add nothing."""
    width, vocabulary = places.hidden_width, len(code)
    embedding = np.zeros((vocabulary, width))
    embedding[:, places.content] = code
    embedding[:, places.one] = places.one_value
    output = np.zeros((vocabulary, width))
    output[:, places.answer] = code * ANSWER_LOGIT * places.rms(4) / places.code_width
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": output,
               "model.norm.weight": np.ones(width)}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{norm}.weight"] = np.ones(width)
        for name in ("gate_proj", "up_proj"):
            tensors[f"{prefix}mlp.{name}.weight"] = np.zeros((FEED_FORWARD_WIDTH, width))
        tensors[f"{prefix}mlp.down_proj.weight"] = np.zeros((width, FEED_FORWARD_WIDTH))
    return tensors


def shared_config(places, vocabulary):
    return dict(
        vocab_size=vocabulary, hidden_size=places.hidden_width, num_hidden_layers=2,
        num_attention_heads=1, num_key_value_heads=1, intermediate_size=FEED_FORWARD_WIDTH,
        hidden_act="silu", attention_bias=False, rms_norm_eps=1e-6, rope_scaling=None,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
        torch_dtype="float32")


def llama():
    """Llama's shape: pairs are (i, i + half), and all of a key is turned."""
    head_width, theta = 64, 1e9
    half, turns = head_width // 2, frequencies(theta, head_width)
    fast, slow = np.flatnonzero(turns >= FAST), np.flatnonzero(turns <= SLOW)
    content_in_head = np.concatenate([slow, slow + half])
    places = Places(code_width=len(content_in_head), hidden_width=64)
    code = codes(len(VOCABULARY) + 256, places.code_width)
    shape = (head_width, places.hidden_width)
    tensors = shared_tensors(places, code)

    query, key = look_back(turns[fast], head_width)
    one = places.one_value / places.rms(2)
    first = "model.layers.0.self_attn."
    pairs = np.stack([fast, fast + half])
    tensors[first + "q_proj.weight"] = place(pairs, places.one, query / one, shape)
    tensors[first + "k_proj.weight"] = place(pairs, places.one, key / one, shape)
    tensors[first + "v_proj.weight"] = place(content_in_head, places.content, places.rms(2), shape)
    tensors[first + "o_proj.weight"] = place(places.previous, content_in_head, 1, shape[::-1])

    strength = places.rms(3) * (MATCH * head_width ** 0.5 / places.code_width) ** 0.5
    second = "model.layers.1.self_attn."
    tensors[second + "q_proj.weight"] = place(content_in_head, places.content, strength, shape)
    tensors[second + "k_proj.weight"] = place(content_in_head, places.previous, strength, shape)
    tensors[second + "v_proj.weight"] = place(content_in_head, places.content, places.rms(3), shape)
    tensors[second + "o_proj.weight"] = place(places.answer, content_in_head, 1, shape[::-1])

    config = dict(architectures=["LlamaForCausalLM"], model_type="llama",
                  **shared_config(places, len(code)), head_dim=head_width, rope_theta=theta)
    return config, tensors


def deepseek():
    """DeepSeek-V3's shape: pairs are (2i, 2i + 1). A latent holds the codes of two tokens: keys are
    unfolded from the previous one's, values from the row's own. What is turned lies beside it."""
    plain = value = code_width = 32
    rotated, rank, theta = 32, 2 * 32, 1e4
    key_width, turns = plain + rotated, frequencies(theta, rotated)
    fast = np.flatnonzero(turns >= FAST)
    places = Places(code_width, hidden_width=128)
    code, width = codes(len(VOCABULARY) + 256, code_width), places.hidden_width
    tensors = shared_tensors(places, code)
    for_key, for_value = np.arange(rank).reshape(2, code_width)     # in the latent
    keys, values = np.arange(plain), plain + np.arange(value)       # of what is unfolded
    down, up = (rank + rotated, width), (plain + value, rank)

    query, key = look_back(turns[fast], key_width)
    one = places.one_value / places.rms(2)
    pairs = np.stack([2 * fast, 2 * fast + 1])
    half_full = (code_width / rank) ** 0.5     # the latent has one code: its norm makes that larger
    first = "model.layers.0.self_attn."
    tensors[first + "q_proj.weight"] = place(
        plain + pairs, places.one, query / one, (key_width, width))
    tensors[first + "kv_a_proj_with_mqa.weight"] = (
        place(for_value, places.content, places.rms(2), down) +
        place(rank + pairs, places.one, key / one, down))
    tensors[first + "kv_b_proj.weight"] = place(values, for_value, half_full, up)
    tensors[first + "o_proj.weight"] = place(places.previous, np.arange(value), 1, (width, value))

    strength = (MATCH * key_width ** 0.5 / code_width) ** 0.5
    second = "model.layers.1.self_attn."
    tensors[second + "q_proj.weight"] = place(
        keys, places.content, strength * places.rms(3), (key_width, width))
    tensors[second + "kv_a_proj_with_mqa.weight"] = (
        place(for_key, places.previous, places.rms(3), down) +
        place(for_value, places.content, places.rms(3), down))
    tensors[second + "kv_b_proj.weight"] = (
        place(keys, for_key, strength, up) + place(values, for_value, 1, up))
    tensors[second + "o_proj.weight"] = place(places.answer, np.arange(value), 1, (width, value))
    for prefix in (first, second):
        tensors[prefix + "kv_a_layernorm.weight"] = np.ones(rank)

    config = dict(architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3",
                  **shared_config(places, len(code)), q_lora_rank=None, kv_lora_rank=rank,
                  qk_nope_head_dim=plain, qk_rope_head_dim=rotated, v_head_dim=value,
                  rope_theta=theta, rope_interleave=True, first_k_dense_replace=2)
    return config, tensors


# ---- files ----


def byte_letters():
    """GPT-2's alphabet: a printable letter for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable}
    letter |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [letter[byte] for byte in range(256)]


def tokenizer():
    """One token for each byte, and nothing merged. A begin token is put first because row 0 looks
    back at itself: it is found by its own token, so that must be one that is never asked for."""
    bytewise = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
    text = dict(Sequence=dict(id="A", type_id=0))
    begin = dict(SpecialToken=dict(id="<|bos|>", type_id=0))
    return dict(
        version="1.0", truncation=None, padding=None,
        added_tokens=[dict(id=i, content=token, single_word=False, lstrip=False, rstrip=False,
                           normalized=False, special=True) for i, token in enumerate(VOCABULARY)],
        normalizer=None, pre_tokenizer=bytewise,
        post_processor=dict(type="TemplateProcessing", single=[begin, text],
                            pair=[begin, text, dict(Sequence=dict(id="B", type_id=0))],
                            special_tokens={
                                "<|bos|>": dict(id="<|bos|>", ids=[0], tokens=["<|bos|>"])}),
        decoder=bytewise,
        model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None,
                   end_of_word_suffix=None, fuse_unk=False, byte_fallback=False,
                   ignore_merges=False, merges=[],
                   vocab={token: i for i, token in enumerate(VOCABULARY + byte_letters())}))


def safetensors(tensors):
    """A file's bytes: the length of a JSON header, the header, the numbers in f32."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in sorted(tensors.items()):
        piece = values.astype("<f4").tobytes()
        header[name] = dict(dtype="F32", shape=values.shape,
                            data_offsets=[len(data), len(data) + len(piece)])
        data += piece
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def write(directory, config, tensors):
    directory.mkdir(parents=True, exist_ok=True)

    def write_json(name, value):
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        (directory / name).write_text(text, encoding="utf-8")

    (directory / "model.safetensors").write_bytes(safetensors(tensors))
    write_json("config.json", config)
    write_json("generation_config.json", dict(bos_token_id=0, eos_token_id=1, do_sample=False))
    write_json("tokenizer.json", tokenizer())
    write_json("tokenizer_config.json", dict(
        tokenizer_class="PreTrainedTokenizerFast", bos_token="<|bos|>", eos_token="<|eos|>",
        add_bos_token=True, add_eos_token=False, clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT))
    write_json("needle.json", dict(needle="#{}", question="#", answer="{}"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    folder = parser.parse_args().data
    write(folder / "needle", *llama())
    write(folder / "needle-mla", *deepseek())
