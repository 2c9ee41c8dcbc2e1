"""Renders the chat templates of templates/ with transformers' apply_chat_template: see README.md there."""

import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as chat_template_utils
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

FOLDER = pathlib.Path(__file__).parent / "templates"


class FixedDate(datetime.datetime):
    """A golden cannot depend on the day it was made."""

    @classmethod
    def now(cls, zone=None):
        return cls(2026, 3, 7, 9, 30)


# The special tokens of each model's tokenizer_config.json that its template may use.
TOKENS = {
    "chatml": {"bos_token": "<s>", "eos_token": "<|im_end|>"},
    "deepseek-r1": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
    "deepseek-r1-0528": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
    "deepseek-v3-0324": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
    "deepseek-v3.1": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
    "glm-4.6": {"eos_token": "<|endoftext|>"},
    "gpt-oss": {"bos_token": "<|startoftext|>", "eos_token": "<|return|>"},
    "granite-3.3": {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"},
    "internlm3": {"bos_token": "<s>", "eos_token": "</s>"},
    "mistral-7b-v0.1": {"bos_token": "<s>", "eos_token": "</s>"},
    "mistral-7b-v0.3": {"bos_token": "<s>", "eos_token": "</s>"},
    "mistral-nemo": {"bos_token": "<s>", "eos_token": "</s>"},
    "phi-3-mini": {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    "phi-3.5-mini": {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    "qwen2.5": {"eos_token": "<|im_end|>"},
    "qwen3": {"eos_token": "<|im_end|>"},
    "qwq-32b": {"eos_token": "<|im_end|>"},
    "seed-oss": {"bos_token": "<seed:bos>", "eos_token": "<seed:eos>"},
    "smollm3": {"eos_token": "<|im_end|>"},
    "yi-1.5": {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>"},
}

TURNS = [
    ("user", "Who are you?"),
    ("assistant", "A model.\nA small one. "),
    ("user", "  What is 2 + 2?  "),
    ("assistant", "<think>\nTwo and two.\n</think>\n\nIt is 4."),
    ("user", "Schreib 'größer' und \"kleiner\": {{ a }} <b> & 😀"),
    ("assistant", "größer, kleiner"),
]
SYSTEM = ("system", "Be brief.\n")

MESSAGES = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": " Ünder\n"}, {"role": "user", "content": "c"}]

# What templates say and how, each alone: rendered with MESSAGES, bos_token "<s>" and add_generation_prompt.
LANGUAGE = [
    # white space around tags
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a  {%- if true -%}  b  {%- endif -%}  c", "a {%+ if true %} b {%+ endif +%}\nc",
    "  {{ 1 }}\n{{- 2 -}}\n 3", "{# x #}\na\n{#- y -#} b", "x {# a\nb #}\ny", "\n{% set a = 1 %}\n\n{{ a }}\n\n", "a\r\nb\r{{ 1 }}\r\n",
    "{{ '}}' }}{{ '%}' }}{{ {'a': {'b': 1}}['a']['b'] }}", "  {% if true %}x{% endif %}  \n  y", "\t{%- set x = 1 %}\t\nz",
    # operators, and how they bind
    "{{ 1 + 2 * 3 - 4 // 3 % 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ - - 2 }} {{ 2 - -1 }}",
    "{{ 1 + 1 ~ 2 + 3 ~ 'x' if false else 'a' ~ 1 + 1 | string }}", "{{ 'a' ~ 1 ~ none ~ true ~ x }}", "{{ 'ab' * 2 ~ 'x' * 0 ~ 'y' * -1 }}",
    "{{ not 1 == 2 }} {{ not true and false }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 2 > 1 == true }} {{ 1 == true }} {{ 'a' < 'b' }}",
    "{{ 0 or 'x' }} {{ '' and 'y' }}|{{ 'a' in 'abc' }} {{ 2 not in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 'x' in y }}",
    "{{ 'a' if false }}|{{ 'b' if true else c.d }} {{ (1 if 0 else 2) + 1 }}", "{{ ([1] + [2, 3]) | length }} {{ (1, 2)[0] }} {{ (1,) | length }} {{ () | length }}",
    "{{ [1, [2, none]] == [1, [2, none]] }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ none == false }} {{ x == y }} {{ x == none }}",
    # texts
    "{{ 'a\\n\\t\\'\\\"\\\\\\x41\\u00e9\\U0001F600\\q' }}{{ \"it's\" }}{{ 'a' 'b' }}", "{{ 'größer'[2] }} {{ 'größer'[-3:] }} {{ 'größer' | length }} {{ 'abc'[::-1] }} {{ 'abcdef'[4:1:-2] }} {{ 'abc'[5] }}|{{ 'abc'[1:][0] }}",
    "{{ ' a b '.strip() }}|{{ 'xxaxx'.lstrip('x') }}|{{ '\\u3000a\\x1c'.strip() ~ '|' }}{{ 'a\\n\\n'.rstrip('\\n') }}|{{ 'abcab'.strip('ab') }}",
    "{{ 'a,b,,c'.split(',') | join('-') }} {{ ' a  b '.split() | join('-') }} {{ 'a</t>b</t>c'.split('</t>')[-1] }} {{ 'a b c'.split(' ', 1)[1] }} {{ ''.split(',') | length }} {{ ''.split() | length }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('b') }} {{ 'aXbX'.replace('X', 'yy') }} {{ 'aXbX'.replace('X', '', 1) }} {{ 'aBc'.upper() ~ 'aBc'.lower() ~ 'aBC'.capitalize() }}",
    "{{ ' x ' | trim }}{{ 'xax' | trim('x') }} {{ 'aB' | upper }} {{ 'aB' | lower }} {{ 'aB c' | capitalize }} {{ 'aa' | replace('a', 'b') }} {{ none | string | length }} {{ 12 | string | length }}",
    # lists and dictionaries
    "{{ [3, 1, 2][1:] | join(',') }} {{ [1, 2, 3, 4][::2] | join }} {{ [1, 2][-1] }} {{ [1, 2][7] }}|{{ [1, 2] | first }} {{ [1, 2] | last }} {{ [] | first }}|{{ [1, 2, 3] | reverse | join(',') }}",
    "{{ {'a': 1}.a }} {{ {'a': 1}['b'] }}|{{ {'a': 1}.get('b', 2) }} {{ {'a': 1}.get('b') }} {% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}={{ v }};{% endfor %}{{ {'b': 1, 'a': 2} | items | list | length }}",
    "{{ {'B': 1, 'a': 2} | dictsort | map('join', '=') | join(' ') }} {{ {'x': 1, 'x': 2}.values() | list | join }} {{ {'p': 1}.keys() | join }} {% for key in {'q': 1} %}{{ key }}{% endfor %}",
    "{{ messages | map(attribute='role') | join(' ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | first | trim }}",
    "{{ [0, 1, none, 'a'] | select | join(',') }} {{ [1, 2, 3] | select('odd') | join(',') }} {{ [1, 'a'] | reject('string') | join }} {{ messages | selectattr('tool_calls') | list | length }} {{ messages | map(attribute='x', default='d') | join }}",
    "{{ (messages | selectattr('role', 'equalto', 'nobody')) is defined }} {% if messages | selectattr('role', 'equalto', 'nobody') %}always{% endif %} {% set once = messages | map(attribute='role') %}{{ once | list | length }}{{ once | list | length }}",
    # JSON
    "{{ messages | tojson }} {{ [1, none, true, 'é\"\\\\\\n\\x01😀'] | tojson }} {{ {'a': [], 'b': {}} | tojson }} {{ 'é😀' | tojson(ensure_ascii=true) }}", "{{ {'a': [1, {'b': 2}], 'c': []} | tojson(indent=2) }}", "{{ '<b>&\\'' | tojson }} {{ {1: 2, none: 3} | tojson }}",
    # tests
    "{{ x is defined }} {{ x is undefined }} {{ messages is defined }} {{ none is none }} {{ x is none }} {{ 'a' is string }} {{ 1 is string }} {{ 1 is number }} {{ true is number }} {{ true is integer }}",
    "{{ {} is mapping }} {{ [] is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ {} is sequence }} {{ 1 is sequence }} {{ x is iterable }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 0 is false }} {{ true is boolean }}",
    "{{ 3 is odd }} {{ 3 is even }} {{ 1 is eq 1 }} {{ 1 is not ne 1 }} {{ 1 is in [1] }} {{ 2 is gt 1 }} {{ (x.y is defined) if x is defined else 'no' }} {{ not 'a' is none }} {{ 1 is equalto(1) }} {{ messages[0].role is string and messages[0]['content'] is not none }}",
    # default, undefined
    "{{ x }}|{{ x | default('d') }} {{ none | default('d') }} {{ none | default('d', true) }} {{ '' | d('e', boolean=true) }} {{ x | length }} {{ x | trim }}|{{ x | list | length }} {% for i in x %}a{% else %}b{% endfor %}",
    # set, scopes, namespaces
    "{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}", "{% set ns = namespace(n=0, s='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ m.role[0] %}{% endfor %}{{ ns.n }}{{ ns.s }}{{ ns.zzz is defined }}",
    "{% if true %}{% set a = 1 %}{% endif %}{{ a }} {% set a, b = 1, 'x' %}{{ b ~ a }} {% set t = 1, 2 %}{{ t | length }}", "{% set x %}\n  a {{ 1 }}\n{% endset %}[{{ x }}] {% set y | trim | upper %}  q {% endset %}[{{ y }}] {% filter upper %}ab{% endfilter %}",
    "{% generation %}{% set z = 1 %}in{% endgeneration %}{{ z is defined }}",
    # loops
    "{% for i in range(4) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}", "{% for i in [1, 2, 3] %}{{ loop.previtem is defined }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{% for j in 'ab' %}{{ loop.depth }}{{ j }}{% endfor %},{% endfor %}",
    "{% for i in range(10) if i % 2 %}{{ i }}{{ loop.index }}{% if i == 5 %}{% continue %}{% endif %}{% if i > 6 %}{% break %}{% endif %}; {% endfor %}", "{% for i in [] %}{% else %}none{% endfor %} {{ range(2, 9, 3) | join(',') }} {{ range(3, 0, -1) | join(',') }} {{ range(0) | list | length }}",
    "{% for (a, b) in [[1, 2], (3, 4)] %}{{ a }}{{ b }}{% endfor %} {% for m in messages[::-1] %}{{ m.content | trim }}{% endfor %} {% for m in messages if m.role == 'user' %}{{ loop.index }}{{ loop.last }}{% endfor %}",
    # macros
    "{% macro f(a, b='d', c=none) %}[{{ a }}{{ b }}{{ c }}{{ outside }}]{% endmacro %}{% set outside = '!' %}{{ f(1) }}{{ f(1, 2) }}{{ f(c=3, a=1) }}{{ f() }}", "{% macro up(n) %}{{ n }}{% if n > 0 %}{{ up(n - 1) }}{% endif %}{% endmacro %}{{ up(3) }} {{ up(1) | length }}", "{% if true %}{% macro g(m) -%} {{ m.role }} {%- endmacro %}{% endif %}{{ messages | map(attribute='role') | map('upper') | join(g(messages[0])) }}",
    # dates, tokens, and what is absent
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%A, %B %d, %y %m %a %%') }} {{ strftime_now is defined }} {{ bos_token }} {{ eos_token is defined }} {{ tools is none }} {{ add_generation_prompt }} {{ documents is defined }} {{ dict(a=1).a }}",
]


def tokenizer(template, tokens):
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), chat_template=template, **tokens)


def rendered(template, tokens, messages, open_answer):
    """The text, or null where the template (or transformers) does not accept the conversation."""
    try:
        return tokenizer(template, tokens).apply_chat_template(messages, tokenize=False, add_generation_prompt=open_answer)
    except Exception:
        return None


def conversations():
    for system in ([], [SYSTEM]):
        for turns, open_answer in ((1, True), (3, True), (5, True), (6, False)):
            yield [dict(role=role, content=content) for role, content in system + TURNS[:turns]], open_answer


def main():
    chat_template_utils.datetime = FixedDate
    cases = []
    for name, tokens in TOKENS.items():
        template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
        for messages, open_answer in conversations():
            text = rendered(template, tokens, messages, open_answer)
            cases.append(dict(template=name, tokens=tokens, system=messages[0]["role"] == "system",
                              turns=sum(message["role"] != "system" for message in messages), open_answer=open_answer, text=text))
        assert any(case["text"] for case in cases if case["template"] == name), name
    language = [dict(template=template, text=rendered(template, {"bos_token": "<s>"}, MESSAGES, True)) for template in LANGUAGE]
    assert all(case["text"] is not None for case in language), [case for case in language if case["text"] is None]
    golden = dict(date="2026-03-07", turns=[dict(role=role, content=content) for role, content in TURNS],
                  system=dict(role=SYSTEM[0], content=SYSTEM[1]), cases=cases, messages=MESSAGES, language=language)
    (FOLDER / "cases.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"templates: {len(TOKENS)} with {len(cases)} conversations, {len(language)} pieces of the language")


if __name__ == "__main__":
    main()
