"""Makes models/<case>/: a tiny random checkpoint and what Hugging Face transformers computes from it.

Every case is written to disk first, under the published tensor names, and then loaded back from those very files:
the goldens are what transformers computes from what our program reads, in float32 on one CPU thread. Re-running
gives identical bytes (on one machine; another CPU's matmuls may differ in the last bits).

Files of a case
  config.json                 in the spelling that the table gives it
  config_other_spelling.json  the same model in the other spelling
  model.safetensors           or shards with model.safetensors.index.json
  tokens.npy                  int32 [tokens]
  greedy.npy                  of some: int32 [more], the tokens with the largest logits, one after the other
  logits.npy                  float32 [tokens, vocab], one forward pass over all tokens
  experts.npy                 MoE only: int32 [moe_layers, tokens, k], ascending ids
  expert_weights.npy          float32, same shape and order: what each expert's output is multiplied by
  margins.npy                 float32 [moe_layers, tokens]: how far the nearest decision of the router is from a tie
"""

import json
import math
import shutil
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
SMALLEST_MARGIN = 1e-4  # of any router decision in a golden: far above float32 noise, so expert ids may be compared exactly


# The cases ------------------------------------------------------------------------------------------------------------

LLAMA = dict(
    model_type="llama", vocab_size=97, hidden_size=40, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, rms_norm_eps=1e-5, max_position_embeddings=512, rope_theta=10000.0,
)
WINDOW = dict(use_sliding_window=True, sliding_window=16)
QWEN3 = dict(
    model_type="qwen3", vocab_size=101, hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, max_position_embeddings=512, rope_theta=1000000.0,
)
MIXTRAL = dict(
    model_type="mixtral", vocab_size=97, hidden_size=32, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2, max_position_embeddings=512, rope_theta=1000000.0,
)
MISTRAL = dict(LLAMA, model_type="mistral", num_key_value_heads=2, sliding_window=None)
QWEN2 = dict(
    LLAMA, model_type="qwen2", hidden_size=48, num_attention_heads=6, num_key_value_heads=2, rms_norm_eps=1e-6,
    rope_theta=1000000.0,
)
QWEN2_MOE = dict(
    QWEN2, model_type="qwen2_moe", hidden_size=28, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=3,
    moe_intermediate_size=12, shared_expert_intermediate_size=20, num_experts=8, num_experts_per_tok=3, mlp_only_layers=[1],
)
QWEN3_MOE = dict(
    QWEN3, model_type="qwen3_moe", hidden_size=28, moe_intermediate_size=12, num_experts=9, num_experts_per_tok=3,
)
DEEPSEEK = dict(
    vocab_size=97, hidden_size=32, intermediate_size=44, num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=20,
    qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10, rms_norm_eps=1e-6, max_position_embeddings=512,
    rope_theta=10000.0,
)
DENSE = dict(num_hidden_layers=2, first_k_dense_replace=2)
ONE_DENSE_TWO_MOE = dict(hidden_size=24, num_hidden_layers=3, first_k_dense_replace=1)
V2_LITE = dict(DEEPSEEK, model_type="deepseek_v2", q_lora_rank=None)
V2 = dict(DEEPSEEK, model_type="deepseek_v2", q_lora_rank=24)
V3 = dict(DEEPSEEK, model_type="deepseek_v3", q_lora_rank=24)
V3_MOE = dict(
    V3, **ONE_DENSE_TWO_MOE, moe_intermediate_size=8, n_routed_experts=24, n_shared_experts=1, n_group=8, topk_group=4,
    num_experts_per_tok=6, routed_scaling_factor=2.5, norm_topk_prob=True,
)

# mscale != mscale_all_dim, so a reader that confuses the two is caught; the tokens go beyond the original length.
V2_YARN = dict(
    rope_type="yarn", factor=40.0, original_max_position_embeddings=128, beta_fast=4, beta_slow=1, mscale=0.707,
    mscale_all_dim=1.2,
)
V3_YARN = dict(
    rope_type="yarn", factor=20.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1, mscale=1.3,
    mscale_all_dim=0.8,
)
# head_dim 16: wavelengths 6.3 ... 19869, so below 64/4 (kept), between (blended) and above 64/1 (divided by 8).
LLAMA3_ROPE = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64,
)


@dataclass
class Case:
    name: str
    config: dict
    spelling: str = "transformers"  # of config.json: "transformers" (version 5) or "published" (what checkpoints carry)
    tokens: int = 48
    rope: dict | None = None        # rope parameters besides rope_theta
    dtype: torch.dtype = torch.float32
    bias: tuple = ()                # the values about which e_score_correction_bias scatters
    max_shard_size: str = "1GB"
    fp8: bool = False
    scale_dtype: torch.dtype = torch.float32  # of fp8 blocks
    fused: bool = False             # experts in two tensors for all of them, as transformers 5 keeps them in memory
    base_names: bool = False        # tensors named as in a file of the model without its output matrix
    greedy: int = 0                 # tokens that are generated after the prompt
    mtp_layer: bool = False         # add tensors of one layer past the last, as published DeepSeek-V3 checkpoints do
    published: dict = field(default_factory=dict)  # keys that only the published spelling has


CASES = [
    Case("llama-mha", LLAMA),
    Case("llama-gqa", LLAMA | dict(hidden_size=48, num_attention_heads=6, num_key_value_heads=2), "published"),
    Case("llama-mqa", LLAMA | dict(num_key_value_heads=1)),
    Case("llama-tied", LLAMA | dict(num_key_value_heads=2, tie_word_embeddings=True), "published"),
    Case("llama-bf16", LLAMA | dict(num_key_value_heads=2), "published", dtype=torch.bfloat16),
    Case("llama-f16", LLAMA | dict(num_key_value_heads=2), dtype=torch.float16),
    Case("llama-head-dim", LLAMA | dict(hidden_size=36, num_key_value_heads=2, head_dim=16)),
    Case("llama3-rope", LLAMA | dict(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, eos_token_id=[2, 3, 4]),
         "published", 200, rope=LLAMA3_ROPE),
    Case("llama3-rope-v5", LLAMA | dict(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, rope_theta=500000.0),
         tokens=100, rope=LLAMA3_ROPE),
    Case("llama-sharded", LLAMA | dict(num_key_value_heads=2), max_shard_size="60KB"),
    Case("llama-long", LLAMA | dict(hidden_size=32, num_key_value_heads=2), "published", 300),
    Case("qwen3", QWEN3),
    Case("qwen3-tied", QWEN3 | dict(num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True), "published"),
    Case("mixtral", MIXTRAL, "published"),
    Case("qwen3-moe", QWEN3_MOE | dict(norm_topk_prob=True), "published"),
    Case("qwen3-moe-unnormalised", QWEN3_MOE | dict(norm_topk_prob=False)),
    Case("deepseek-v2-dense", V2 | DENSE | dict(v_head_dim=14)),
    Case("deepseek-v2-yarn", V2_LITE | DENSE | dict(qk_rope_head_dim=16), "published", 200, rope=V2_YARN),
    Case("deepseek-v2-lite", V2_LITE | ONE_DENSE_TWO_MOE | dict(
        moe_intermediate_size=10, n_routed_experts=12, n_shared_experts=2, num_experts_per_tok=4, topk_method="greedy",
        routed_scaling_factor=1.0, norm_topk_prob=False), "published", published=dict(n_group=1, topk_group=1)),
    Case("deepseek-v2-group", V2 | ONE_DENSE_TWO_MOE | dict(
        moe_intermediate_size=8, n_routed_experts=16, n_shared_experts=2, n_group=8, topk_group=3, num_experts_per_tok=5,
        topk_method="group_limited_greedy", routed_scaling_factor=16.0, norm_topk_prob=False)),
    Case("deepseek-v3-dense", V3 | DENSE, "published"),
    Case("deepseek-v3-yarn", V3 | DENSE | dict(qk_rope_head_dim=16), tokens=200, rope=V3_YARN),
    Case("deepseek-v3-moe", V3_MOE, "published", bias=(-5.0, 5.0), mtp_layer=True),
    Case("deepseek-v3-moe-negative-bias", V3_MOE, bias=(-5.0,)),
    Case("deepseek-v3-fp8", V3 | DENSE | dict(
        hidden_size=136, intermediate_size=160, q_lora_rank=72, kv_lora_rank=72, qk_nope_head_dim=24, qk_rope_head_dim=16,
        v_head_dim=20), "published", fp8=True, dtype=torch.bfloat16),
    Case("llama-biases", LLAMA | dict(num_key_value_heads=2, attention_bias=True, mlp_bias=True)),
    Case("llama-base-names", LLAMA | dict(num_key_value_heads=2, tie_word_embeddings=True), base_names=True),
    Case("mistral", MISTRAL, "published"),
    Case("mixtral-fused", MIXTRAL, fused=True),
    Case("qwen2", QWEN2, "published"),
    Case("qwen2-moe", QWEN2_MOE | dict(norm_topk_prob=False), "published"),
    Case("qwen3-biases", QWEN3 | dict(attention_bias=True)),
    Case("qwen3-fp8-bf16-scales", QWEN3 | dict(
        hidden_size=136, intermediate_size=144, num_hidden_layers=1, head_dim=40), "published", fp8=True,
        scale_dtype=torch.bfloat16, dtype=torch.bfloat16),
    Case("qwen3-moe-fused", QWEN3_MOE | dict(norm_topk_prob=True), fused=True),
    Case("deepseek-v3-biases", V3 | DENSE | dict(kv_lora_rank=36, attention_bias=True)),
    Case("mistral-window", MISTRAL | dict(sliding_window=16), "published", greedy=24),
    Case("mixtral-window", MIXTRAL | dict(sliding_window=15), "published", greedy=24),
    Case("qwen2-window", QWEN2 | dict(
        num_hidden_layers=4, use_sliding_window=True, sliding_window=11, max_window_layers=2), "published", greedy=24),
    Case("qwen2-moe-window", QWEN2_MOE | dict(norm_topk_prob=False, **WINDOW, max_window_layers=2), "published", greedy=24),
    Case("qwen3-layer-types", QWEN3 | dict(
        num_hidden_layers=3, **WINDOW, layer_types=["sliding_attention", "full_attention", "sliding_attention"]), greedy=24),
    Case("qwen3-moe-window", QWEN3_MOE | dict(norm_topk_prob=True, **WINDOW), "published", greedy=24),
]


# Configurations -------------------------------------------------------------------------------------------------------

def make_config(case: Case):
    settings = {key: value for key, value in case.config.items() if key not in ("model_type", "rope_theta")}
    rope = {"rope_theta": case.config["rope_theta"], **(case.rope or {"rope_type": "default"})}
    return AutoConfig.for_model(case.config["model_type"], rope_parameters=rope, dtype=case.dtype, **settings)


def published_spelling(config: dict, case: Case) -> dict:
    """What config.json of the published checkpoints looks like, from what transformers 5 writes."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    rope_type = rope.pop("rope_type")
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.3"
    family = config["model_type"]
    if family.startswith("deepseek"):
        deepseek_keys(config, case)
        config["rope_theta"] = int(config["rope_theta"])
        if rope_type != "default":
            rope["factor"] = int(rope["factor"])
            config["rope_scaling"] = {**rope, "type": rope_type}  # DeepSeek says "type", Llama 3 "rope_type"
    elif rope_type != "default":
        config["rope_scaling"] = {**rope, "rope_type": rope_type}
    config.setdefault("rope_scaling", None)
    if family == "llama" and config["head_dim"] * config["num_attention_heads"] == config["hidden_size"]:
        del config["head_dim"]  # Llama 2 and 3 leave it out: hidden_size / num_attention_heads
    if family in ("mistral", "mixtral") and config["head_dim"] in (None, config["hidden_size"] // config["num_attention_heads"]):
        del config["head_dim"]
    if family.startswith("qwen") and "layer_types" not in case.config:
        config.pop("layer_types", None)
    if family.startswith("qwen") and not config["use_sliding_window"]:
        config.update(max_window_layers=28, use_sliding_window=False, sliding_window=None)
    if family == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    if case.fp8:
        config["quantization_config"] = {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
    return dict(sorted((config | case.published).items()))


def deepseek_keys(config: dict, case: Case) -> None:
    for key in ("head_dim", "qk_head_dim", "rope_interleave", "mlp_bias", "output_router_logits"):
        config.pop(key, None)
    is_v3 = config["model_type"] == "deepseek_v3"
    config.update(
        scoring_func="sigmoid" if is_v3 else "softmax", moe_layer_freq=1, ep_size=1, seq_aux=True, aux_loss_alpha=0.001,
    )
    config.setdefault("topk_method", "noaux_tc" if is_v3 else "greedy")


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_configs(folder: Path, case: Case) -> None:
    ours = json.loads((folder / "config.json").read_text())
    published = published_spelling(ours, case)
    if case.fp8:
        ours["quantization_config"] = published["quantization_config"]
    first, second = (published, ours) if case.spelling == "published" else (ours, published)
    write_json(folder / "config.json", first)
    write_json(folder / "config_other_spelling.json", second)


# Weights --------------------------------------------------------------------------------------------------------------

def spread(name: str, shape: tuple, case: Case, random: np.random.Generator) -> np.ndarray:
    """Wide enough that attention is far from uniform and logits are of order 1 to 10 (transformers' own 0.02 is not)."""
    if name.endswith("e_score_correction_bias"):
        return random.choice(case.bias, shape) + 0.2 * random.standard_normal(shape)
    if name.endswith(".bias"):
        return random.standard_normal(shape)
    if len(shape) == 1:  # norms; those of Qwen3's queries and keys set the sharpness of attention
        return random.uniform(*((1.0, 2.0) if "q_norm" in name or "k_norm" in name else (0.5, 1.5)), shape)
    if "embed_tokens" in name:
        return random.standard_normal(shape) * (0.5 if case.config.get("tie_word_embeddings") else 1.0)
    gain = 3.0 if "lm_head" in name else 2.0 if "mlp.gate.weight" in name or "shared_expert_gate" in name else 1.4
    return random.standard_normal(shape) * gain / math.sqrt(shape[-1])


def make_weights(case: Case, folder: Path) -> None:
    """Writes the checkpoint with transformers' own save_pretrained, which splits fused experts into published names."""
    model = AutoModelForCausalLM.from_config(make_config(case), dtype=torch.float32)
    random = np.random.default_rng(zlib.crc32(case.name.encode()))
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not case.config.get("tie_word_embeddings"):
            tensor.copy_(torch.from_numpy(spread(name, tuple(tensor.shape), case, random)))
    model.to(case.dtype).save_pretrained(folder, max_shard_size=case.max_shard_size, save_original_format=not case.fused)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if case.mtp_layer:
        add_mtp_layer(folder, model.config, random)
    if case.fp8:
        quantise(folder, case.scale_dtype)
    if case.base_names:
        tensors = load_file(folder / "model.safetensors")
        save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, folder / "model.safetensors",
                  metadata={"format": "pt"})
    write_configs(folder, case)
    for file in folder.iterdir():
        file.chmod(0o644)


def add_mtp_layer(folder: Path, config, random: np.random.Generator) -> None:
    """Some tensors of layer num_hidden_layers, the multi-token prediction layer: to be ignored by a reader."""
    prefix, hidden = f"model.layers.{config.num_hidden_layers}.", config.hidden_size
    shapes = {"enorm.weight": (hidden,), "hnorm.weight": (hidden,), "eh_proj.weight": (hidden, 2 * hidden),
              "input_layernorm.weight": (hidden,), "shared_head.norm.weight": (hidden,)}
    tensors = load_file(folder / "model.safetensors")
    tensors |= {prefix + name: torch.from_numpy(random.standard_normal(shape).astype(np.float32))
                for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# FP8 ------------------------------------------------------------------------------------------------------------------

def blocks_like(scales: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """One scale per 128 x 128 block, the last row and column of blocks cut off at the weight's edge."""
    return scales.repeat_interleave(128, 0).repeat_interleave(128, 1)[: shape[0], : shape[1]]


def quantise(folder: Path, scale_dtype: torch.dtype) -> None:
    """Every linear layer but lm_head becomes e4m3 with block scales; embeddings, norms, lm_head stay bf16."""
    tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight") and not name.endswith("_with_mqa.weight"):
            tensors[name] = weight
            continue
        weight = weight.float()
        rows, columns = (math.ceil(size / 128) for size in weight.shape)
        padded = torch.zeros(rows * 128, columns * 128)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        scales = padded.view(rows, 128, columns, 128).abs().amax((1, 3)) / 448.0  # 448 is the largest e4m3 number
        scales = scales.to(scale_dtype)
        tensors[name] = (weight / blocks_like(scales.float(), weight.shape)).clamp(-448, 448).to(torch.float8_e4m3fn)
        tensors[name.replace(".weight", ".weight_scale_inv")] = scales
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def dequantised_copy(folder: Path, copy: Path) -> None:
    """weight * weight_scale_inv in float32 (a multiplication, despite the name), for the float32 model."""
    stored = load_file(folder / "model.safetensors")
    tensors = {}
    for name, weight in stored.items():
        scales = stored.get(name.replace(".weight", ".weight_scale_inv"))
        if not name.endswith("scale_inv"):
            tensors[name] = weight.float() * (1.0 if scales is None else blocks_like(scales.float(), weight.shape))
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    del config["quantization_config"]
    write_json(copy / "config.json", config)


# The reference --------------------------------------------------------------------------------------------------------

def load(folder: Path, case: Case, config_name: str = "config.json"):
    """The float32 model of the files in folder, under either of its configurations."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for file in folder.glob("model*"):
            shutil.copy(file, copy)
        shutil.copy(folder / config_name, copy / "config.json")
        if case.fp8:
            dequantised_copy(folder, copy)
        model, report = AutoModelForCausalLM.from_pretrained(
            copy, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
        assert not report["missing_keys"] and not report["mismatched_keys"], report
        return model.eval()


@torch.no_grad()
def forward(model, tokens: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0].numpy()


def m(factor: float, x: float) -> float:
    return 0.1 * x * math.log(factor) + 1.0 if factor > 1 else 1.0


def require_published_yarn(model, case: Case) -> None:
    """Fails where transformers departs from DeepSeek's modeling_deepseek.py, as versions before its #47435 do for V2."""
    y, dim, base = case.rope, case.config["qk_rope_head_dim"], case.config["rope_theta"]
    head = case.config["qk_nope_head_dim"] + dim
    orig = y["original_max_position_embeddings"]
    low, high = (dim * math.log(orig / (2 * math.pi * turns)) / (2 * math.log(base))
                 for turns in (y["beta_fast"], y["beta_slow"]))
    low, high = max(math.floor(low), 0), min(math.ceil(high), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
    frequency = base ** (-np.arange(0, dim, 2) / dim)
    np.testing.assert_allclose(model.model.rotary_emb.inv_freq.numpy(), frequency * (1 - ramp + ramp / y["factor"]), 1e-6)
    magnitude = m(y["factor"], y["mscale"]) / m(y["factor"], y["mscale_all_dim"])
    assert math.isclose(model.model.rotary_emb.attention_scaling, magnitude)
    for layer in model.model.layers:
        assert math.isclose(layer.self_attn.scaling, head**-0.5 * m(y["factor"], y["mscale_all_dim"]) ** 2)


# Routing --------------------------------------------------------------------------------------------------------------

@dataclass
class Routing:
    experts: np.ndarray  # [tokens, k] ascending
    weights: np.ndarray  # [tokens, k]
    margins: np.ndarray  # [tokens]


def gap(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Between the last that is taken and the first that is not."""
    top = scores.topk(k + 1, dim=-1).values
    return top[:, k - 1] - top[:, k]


def choice_scores(gate, config, logits: torch.Tensor, group_top: int | None = None, masked: float = -math.inf):
    """The scores that the top k is taken of, and the margin of the choice of groups (infinite without groups).

    From the formulas, not from transformers: v3 adds the bias and scores a group by its two best, v2 by its best.
    """
    is_v3 = config.model_type == "deepseek_v3"
    scores = logits.sigmoid() + gate.e_score_correction_bias if is_v3 else logits.softmax(-1)
    if not is_v3 and getattr(config, "topk_method", "") != "group_limited_greedy":
        return scores, torch.full((len(scores),), math.inf)
    groups = scores.view(len(scores), config.n_group, -1)
    group_scores = groups.topk(group_top or (2 if is_v3 else 1), dim=-1).values.sum(-1)
    kept = torch.zeros_like(group_scores, dtype=torch.bool).scatter_(1, group_scores.topk(config.topk_group).indices, True)
    return groups.masked_fill(~kept[..., None], masked).flatten(1), gap(group_scores, config.topk_group)


def route(model, tokens: np.ndarray) -> list[Routing]:
    """One Routing per MoE layer, read from transformers' router by a hook."""
    config, routings = model.config, []

    def hook(gate, _, output):
        logits, weights, experts = output
        ascending, order = experts.sort(dim=-1)
        scores, group_margin = choice_scores(gate, config, logits)
        margins = torch.minimum(gap(scores, experts.shape[1]), group_margin)
        assert torch.equal(ascending, scores.topk(experts.shape[1]).indices.sort(dim=-1).values), "the formulas disagree"
        gate.last_logits = logits
        routings.append(Routing(ascending.numpy(), weights.gather(1, order).numpy(), margins.numpy()))

    handles = [layer.mlp.gate.register_forward_hook(hook) for layer in model.model.layers if hasattr(layer.mlp, "experts")]
    forward(model, tokens)
    for handle in handles:
        handle.remove()
    return routings


def require_telling_routing(model, case: Case) -> None:
    """The well-known wrong routers must choose differently on these tokens, or the golden would not catch them."""
    k = model.config.num_experts_per_tok
    mistakes = {
        "deepseek-v2-group": dict(group_top=2),
        "deepseek-v3-moe": dict(group_top=1),
        "deepseek-v3-moe-negative-bias": dict(masked=0.0),
    }
    if case.name not in mistakes:
        return
    for layer in model.model.layers[model.config.first_k_dense_replace:]:
        gate = layer.mlp.gate
        right, wrong = (choice_scores(gate, model.config, gate.last_logits, **mistake)[0].topk(k).indices.sort(-1).values
                        for mistake in ({}, mistakes[case.name]))
        share = (right != wrong).any(-1).float().mean().item()
        print(f"  {mistakes[case.name]} would change the experts of {share:.0%} of the tokens")
        assert share > 0.02


# Goldens --------------------------------------------------------------------------------------------------------------

def choose_tokens(model, case: Case) -> tuple[np.ndarray, list[Routing]]:
    """Random ids; the first draw whose routing stays clear of ties."""
    for seed in range(1000):
        tokens = np.random.default_rng(seed).integers(0, model.config.vocab_size, case.tokens, dtype=np.int32)
        routings = route(model, tokens)
        if all(r.margins.min() > SMALLEST_MARGIN for r in routings):
            return tokens, routings
    raise RuntimeError(f"{case.name}: no tokens without near-ties")


def continue_greedily(model, tokens: np.ndarray, count: int) -> np.ndarray:
    text = list(tokens)
    for _ in range(count):
        second, first = np.sort(forward(model, np.array(text))[-1])[-2:]
        assert first - second > 1e-3, "nearly a tie: another draw of tokens is needed"
        text.append(int(np.argmax(forward(model, np.array(text))[-1])))
    return np.array(text[len(tokens):])


def save_array(path: Path, array: np.ndarray, dtype: str) -> None:
    np.save(path, np.ascontiguousarray(array.astype(dtype)))


def save_routings(folder: Path, routings: list[Routing]) -> None:
    save_array(folder / "experts.npy", np.stack([r.experts for r in routings]), "<i4")
    save_array(folder / "expert_weights.npy", np.stack([r.weights for r in routings]), "<f4")
    save_array(folder / "margins.npy", np.stack([r.margins for r in routings]), "<f4")


def make_case(case: Case) -> None:
    folder = HERE / "models" / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_weights(case, folder)
    model = load(folder, case)
    if (case.rope or {}).get("rope_type") == "yarn":
        require_published_yarn(model, case)
    tokens, routings = choose_tokens(model, case)
    logits = forward(model, tokens)
    assert np.array_equal(logits, forward(load(folder, case, "config_other_spelling.json"), tokens)), "the spellings differ"
    save_array(folder / "tokens.npy", tokens, "<i4")
    save_array(folder / "logits.npy", logits, "<f4")
    if case.greedy:
        save_array(folder / "greedy.npy", continue_greedily(model, tokens, case.greedy), "<i4")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{case.name:32} {size / 1000:4.0f} kB  {case.tokens:3} tokens  logits {logits.std():.1f} rms, {np.abs(logits).max():.0f} max")
    if routings:
        save_routings(folder, routings)
        require_telling_routing(model, case)


def main(names: list[str] = []) -> None:
    """All cases, or some by name."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for case in CASES:
        if not names or case.name in names:
            make_case(case)


if __name__ == "__main__":
    main(sys.argv[1:])
