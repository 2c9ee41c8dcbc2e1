"""Write data/<model>/README.md from evaluation.json, so that every number in it was measured by a program.

    python data/make/describe.py tiny-gqa --data data
"""

import argparse
import json
import pathlib

from recipe import MODELS

INTRODUCTION = {
    "tiny-gqa": """\
A small trained language model in the Hugging Face layout of `LlamaForCausalLM`: grouped-query attention, half-split RoPE,
SwiGLU, tied embeddings. It tells short stories, chats a little and looks facts up in its context.""",
    "tiny-mla": """\
A small trained language model in the Hugging Face layout of `DeepseekV3ForCausalLM`: multi-head latent attention with
compressed queries, interleaved decoupled RoPE stretched by YaRN, a dense first layer, then one shared and 16 routed experts
of which 4 work for each token, chosen by a sigmoid gate with a balancing bias.""",
}
CONTEXT = {
    "tiny-gqa": "The context is 1024 tokens, as long as the longest rows of the training.",
    "tiny-mla": "The context is 2048 tokens; training saw up to 1024, the rest is what YaRN at factor 4 extends to.",
}
DTYPES = {
    "tiny-gqa": "All weights are bf16.",
    "tiny-mla": "All weights are bf16, but for the router's bias `e_score_correction_bias`, which is f32.",
}


def percent(share):
    return f"{100 * share:.0f}%"


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def plain(text):
    """Without special tokens and line breaks, for a quotation."""
    for token in ("<|bos|>", "<|eos|>"):
        text = text.replace(token, "")
    return " ".join(text.split())


def head(name, result):
    size, story = sum(result["bytes"].values()) / 1e6, result["greedy_runs"][0]
    return f"""# {name}

{INTRODUCTION[name]}

{result['parameters']:,} parameters, {size:.1f} MB. Made by the programs in `data/make/` on text from the project's own
grammar; nothing was downloaded. This page is written by `data/make/describe.py` from `evaluation.json`. Data and weights: CC0 1.0.

Greedy, after "{plain(story['prompt'])}":

> {plain(story['prompt'] + story['continuation'])}
"""


def format_section(name):
    return f"""## Format

A document is `<|bos|>text<|eos|>`, a chat `<|bos|><|user|>question<|assistant|>answer<|eos|><|user|>...`; the `chat_template`
in `tokenizer_config.json` writes the second. `tokenizer.json` is a byte-level BPE with 2048 tokens; it puts `<|bos|>` first
when special tokens are asked for. {DTYPES[name]}
{CONTEXT[name]}
"""


def training_section(result):
    training = result["training"]
    steps, hours = training["steps"], training["cpu_seconds"] / 3600
    phases = ", ".join(f"{phase['steps']} on rows of {phase['length']} tokens ({name})"
                       for name, phase in training["phases"].items())
    return f"""## Training

{steps} steps of {training['tokens'] // steps} tokens, {training['tokens'] / 1e6:.1f} million in all:
{phases}.
{hours:.2f} hours on one CPU core in f32; smoothed training loss at the end {training['final_smoothed_loss']}.
The retrieval circuit of the first two layers had a head start (`data/make/hint.py`) and was trained like everything else.
"""


def quality_section(result):
    losses, answers = result["validation_loss"], result["whole_answers_right"]
    return f"""## Quality

Validation loss, nats per token, on rows of 512 tokens drawn with another seed. Lists, copies and needles cannot go to zero:
the facts themselves are random, only the answers can be known.

{table(list(losses), [list(losses.values())])}

Answers that are right as a whole, 100 prompts each: repeating ten words or eight digits, looking up one of four facts.

{table(list(answers), [[percent(rate) for rate in answers.values()]])}
"""


def needle_table(grid, count):
    depths = next(iter(next(iter(grid.values())).values()))
    header = ["asked for", "tokens", *(f"depth {percent(float(depth))}" for depth in depths)]
    rows = [[kind, length, *(percent(rate) for rate in rates.values())]
            for kind, lengths in grid.items() for length, rates in lengths.items()]
    return f"{table(header, rows)}\n\n{count} prompts per cell; an answer counts when all of it is right.\n"


def needle_section(result):
    return f"""## Needles

One fact about somebody in a story of the given length, another fact of the same kind about somebody else, and the question at
the end. Depth 0% is the beginning. A secret word is one token in most cases, a secret code three digits.

{needle_table(result['needles'], result['needles_per_cell'])}"""


def without_yarn_section(result):
    return f"""## Without YaRN

The same weights with the scaling switched off (`rope_scaling: null`), as a measure of what it does.

{needle_table(result['needles_without_yarn'], result['needles_per_cell'])}"""


def routing_section(result):
    header = ["layer", "largest load over the mean", "smallest share", "bias", "smallest score + bias chosen",
              "smallest lead", "median lead"]
    rows = [[index, percent(layer["largest_excess"]), layer["smallest_share"], layer["bias_range"],
             layer["smallest_chosen_score"], layer["smallest_lead"], layer["median_lead"]]
            for index, layer in enumerate(result["routing"], start=1)]
    return f"""## Routing

On validation text; a share of 1 is an even load. A lead is the distance, in the biased scores, between the last expert chosen
and the best one left out in the same groups: where it is small, rounding may change the choice.

{table(header, rows)}
"""


def comparison_section(result):
    prompts = [[f"`{run['prompt']}`".replace("\n", "\\n").replace("|", "\\|"), run["new_tokens"], run["smallest_lead"]]
               for run in result["greedy_runs"]]
    margins, difference = result["greedy_margins"], result["largest_logit_difference_to_transformers"]
    return f"""## For comparing implementations

- Logits differ from Hugging Face transformers (f32) by at most {difference:.1e}.
- Over {margins['tokens']} greedy tokens after {len(result['greedy_runs'])} prompts, the best logit leads the second by at least
  {margins['smallest']}. 1% of the leads are below {margins['percentile_1']}, {margins['below_0_01']} of them below 0.01;
  the median is {margins['median']}.
  Where a lead is small, another order of summation may change the text. The smallest lead after each prompt:

{table(["prompt", "new tokens", "smallest lead"], prompts)}
"""


def describe(name, data):
    result = json.loads((data / name / "evaluation.json").read_text(encoding="utf-8"))
    sections = [head(name, result), format_section(name), training_section(result), quality_section(result),
                needle_section(result)]
    if "routing" in result:
        sections += [without_yarn_section(result), routing_section(result)]
    sections.append(comparison_section(result))
    page = data / name / "README.md"
    page.write_text("\n".join(sections), encoding="utf-8")
    print(f"describe: wrote {page}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
    arguments = parser.parse_args()
    describe(arguments.model, arguments.data)
