"""What transformers makes of generation_config.json: logits after its processors, and whole generations."""

import json
import pathlib
import random

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

FOLDER = pathlib.Path(__file__).parent
VOCABULARY = 24

RULES = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"bad_words_ids": [[3], [7, 8], [1, 2, 3]]},
    {"bad_words_ids": [[2], [5]], "eos_token_id": [2, 9]},
    {"sequence_bias": [[[4], 2.5], [[7, 8], -3.0], [[8, 8], 1.0]]},
    {"min_length": 6, "eos_token_id": 2},
    {"min_new_tokens": 2, "eos_token_id": [2, 3]},
    {"min_length": 20, "min_new_tokens": 0, "eos_token_id": 2},
    {"min_new_tokens": 4},
    {"forced_bos_token_id": 5},
    {"forced_eos_token_id": 6},
    {"forced_eos_token_id": [6, 7]},
    {"suppress_tokens": [1, 2, 99]},
    {"begin_suppress_tokens": [1, 2]},
    {"begin_suppress_tokens": [1, 2], "forced_bos_token_id": 5},
    {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "bad_words_ids": [[7]], "sequence_bias": [[[7], 4.0], [[8], 1.0]],
     "min_new_tokens": 3, "eos_token_id": 2, "suppress_tokens": [4], "begin_suppress_tokens": [8], "forced_eos_token_id": 9},
]
PLACES = [([7], 1), ([7, 8], 1), ([8, 7, 8, 1, 2], 5), ([8, 7, 8, 1, 2], 3), ([1, 2, 7, 8, 8, 7, 8, 7], 4)]
MAX_NEW_TOKENS = 5  # the last place but one token is the answer's last

WARPERS = [{"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.2}, {"min_p": 0.05, "temperature": 2.0}, {"temperature": 0.5, "top_k": 8, "top_p": 0.9, "min_p": 0.1},
           {"top_k": 3, "top_p": 0.8}, {"top_p": 0.9, "min_p": 0.3}]

GENERATIONS = [
    {}, {"eos_token_id": None}, {"repetition_penalty": 1.4}, {"repetition_penalty": 0.6}, {"no_repeat_ngram_size": 2}, {"suppress_tokens": "first"},
    {"min_new_tokens": 8, "eos_token_id": "first"}, {"min_length": 9, "eos_token_id": "first"}, {"bad_words_ids": "first"},
    {"forced_eos_token_id": 3}, {"do_sample": True, "top_k": 1}, {"do_sample": True, "min_p": 1.0}, {"begin_suppress_tokens": "first"},
    {"do_sample": False, "top_k": 3, "temperature": 0.1, "typical_p": 0.5, "num_beams": 1, "length_penalty": 2.0},
]


def numbers(row):
    """-infinity, which JSON lacks, as null."""
    return [None if value == float("-inf") else round(value, 6) for value in row.tolist()]


def tiny_model():
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                        num_attention_heads=1, num_key_value_heads=1))


def processed(model, config, tokens, prompt, logits):
    prepared = GenerationConfig(**config, max_new_tokens=MAX_NEW_TOKENS)
    prepared = model._prepare_generated_length(prepared, has_default_max_length=True, has_default_min_length=True,
                                               model_input_name="input_ids", input_ids_length=prompt, inputs_tensor=None)
    model._prepare_special_tokens(prepared, device="cpu")
    processors = model._get_logits_processor(prepared, input_ids_seq_length=prompt, encoder_input_ids=None,
                                             prefix_allowed_tokens_fn=None, logits_processor=[], device="cpu", model_kwargs={})
    return processors(torch.tensor([tokens]), logits[None].clone())[0]


def rule_cases(model):
    for config in RULES:
        for tokens, prompt in PLACES:
            logits = torch.randn(VOCABULARY) * 2
            yield dict(config=config, tokens=tokens, prompt=prompt, max_new_tokens=MAX_NEW_TOKENS,
                       logits=[round(value, 4) for value in logits.tolist()],
                       expected=numbers(processed(model, config, tokens, prompt, torch.tensor([round(v, 4) for v in logits.tolist()]))))


def warper_cases(model):
    for config in WARPERS:
        logits = torch.tensor([round(value, 4) for value in (torch.randn(VOCABULARY) * 1.5).tolist()])
        config = {"do_sample": True, "top_k": 0, **config}
        scores = processed(model, config, [1], 1, logits)
        yield dict(config=config, logits=logits.tolist(), probabilities=[round(p, 6) for p in scores.softmax(-1).tolist()])


def generation_cases():
    folder = FOLDER / "models" / "llama-gqa"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    random.seed(5)
    prompt = [random.randrange(3, model.config.vocab_size) for _ in range(6)]

    def generate(config):
        model.generation_config = GenerationConfig(**config)
        return model.generate(torch.tensor([prompt]), max_new_tokens=12)[0, len(prompt):].tolist()

    free = generate({})
    for config in GENERATIONS:
        config = {key: [[free[1]]] if key == "bad_words_ids" else [free[0], free[2]] if value == "first" and key.endswith("tokens") else
                  free[2] if value == "first" else value for key, value in config.items()}
        yield dict(model="llama-gqa", prompt=prompt, max_new_tokens=12, config=config, tokens=generate(config))


def main():
    torch.manual_seed(7)
    model = tiny_model()
    golden = dict(rules=list(rule_cases(model)), warpers=list(warper_cases(model)), generations=list(generation_cases()))
    text = json.dumps(golden).replace('{"config"', '\n{"config"').replace('{"model"', '\n{"model"')
    (FOLDER / "generation.json").write_text(text + "\n", encoding="utf-8")
    print("generation:", {key: len(value) for key, value in golden.items()})


if __name__ == "__main__":
    main()
