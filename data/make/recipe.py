"""What is trained: the two configurations, the phases of the data, the numbers of the optimiser."""

from dataclasses import dataclass, field

VOCABULARY = 2048
VALIDATION_KINDS = ("story", "chat", "needle", "list", "copy")
VALIDATION_LENGTH, VALIDATION_ROWS = 512, 32


@dataclass(frozen=True)
class Phase:
    """A stretch of training. `share` is its part of all steps; rows are drawn from an array of its own."""
    name: str
    share: float
    length: int
    rows: int
    mixture: dict
    habits: float = 0.0      # share of the stories and chats whose teller has favourites (habitual.py)


# First copying, because retrieval is what a small model learns last; then everything; then everything, longer.
PHASES = (
    Phase("echo", 0.15, 256, 9000, dict(echo=0.65, list=0.1, story=0.15, chat=0.1)),
    Phase("main", 0.65, 512, 20000, dict(story=0.30, chat=0.24, needle=0.24, list=0.12, copy=0.07, echo=0.03)),
    Phase("long", 0.20, 1024, 4000, dict(story=0.28, chat=0.22, needle=0.36, list=0.07, copy=0.05, echo=0.02),
          habits=0.6),
)
assert abs(sum(phase.share for phase in PHASES) - 1) < 1e-9

COMMON = dict(
    vocab_size=VOCABULARY, hidden_act="silu", attention_bias=False, attention_dropout=0.0, initializer_range=0.02,
    pad_token_id=0, bos_token_id=1, eos_token_id=2, use_cache=True, torch_dtype="bfloat16", pretraining_tp=1)

GQA = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", **COMMON,
    hidden_size=192, num_hidden_layers=5, num_attention_heads=6, num_key_value_heads=2, head_dim=32,
    intermediate_size=384, mlp_bias=False, rms_norm_eps=1e-5, rope_theta=500000.0, rope_scaling=None,
    max_position_embeddings=1024, tie_word_embeddings=True)

# Trained at 512 tokens without scaling, then stretched with YaRN as DeepSeek-V3 was (there 4096 x 40).
YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=512, beta_fast=32, beta_slow=1,
            mscale=1.0, mscale_all_dim=1.0)

MLA = dict(
    architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", **COMMON,
    hidden_size=192, num_hidden_layers=5, num_attention_heads=6, num_key_value_heads=6,
    q_lora_rank=96, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32,
    intermediate_size=512, moe_intermediate_size=48, first_k_dense_replace=1, moe_layer_freq=1,
    n_routed_experts=16, n_shared_experts=1, num_experts_per_tok=4, n_group=4, topk_group=2,
    scoring_func="sigmoid", topk_method="noaux_tc", norm_topk_prob=True, routed_scaling_factor=2.5,
    rms_norm_eps=1e-6, rope_theta=10000.0, rope_interleave=True, rope_scaling=YARN,
    max_position_embeddings=2048, tie_word_embeddings=False)


@dataclass(frozen=True)
class Training:
    """How one model is trained. Tokens per step are the same in every phase."""
    config: dict
    steps: int
    tokens_per_step: int = 4096
    adam_rate: float = 2e-3
    muon_rate: float = 0.02
    weight_decay: float = 0.1
    warmup: int = 50
    constant_share: float = 0.3        # then the rate falls linearly to `final_share` of it
    final_share: float = 0.02
    bias_rate: float = 0.005           # of the router's correction bias
    balance_weight: float = 1e-4       # of the auxiliary balance loss
    seed: int = 0
    prompts: tuple = field(default=("<|bos|>Once upon a time",))


MODELS = {"tiny-gqa": Training(GQA, steps=2000), "tiny-mla": Training(MLA, steps=1740)}
