"""Makes tokenizers/<case>/: a small byte-pair tokenizer in a published pipeline, and what Hugging Face tokenizers does.

Normalizer, pre-tokenizer, post-processor and decoder of every case are those of a published tokenizer.json; only the
vocabulary is ours, trained on the text below. Re-running gives identical bytes.

Files of a case
  tokenizer.json      absent in tiny/, whose tokenizer.json is data/tiny-gqa/tokenizer.json
  cases.json          [{text, ids, ids_with_special, decoded, decoded_skip_special}]: decoded is of ids, keeping special
                      tokens; decoded_skip_special is of ids_with_special, leaving them out
  decode_cases.json   [{ids, decoded}]: ids that no text encodes to, such as half an emoji
"""

import json
import re
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
TINY = HERE.parent.parent / "data" / "tiny-gqa" / "tokenizer.json"


# Published pipelines, as JSON -----------------------------------------------------------------------------------------

LLAMA3_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")

# GPT-4o's words end where a small letter is followed by a capital one.
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_REGEX = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SUFFIX}|\p{{N}}{{1,3}}|"
               r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# DeepSeek-V3's patterns hold real line ends where the others hold the escapes \r and \n.
V3_DIGITS = r"\p{N}{1,3}"
V3_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
V3_REST = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^%s\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
           r""" ?[\p{P}\p{S}]+[%s]*|\s*[%s]+|\s+(?!\S)|\s+""").replace("%s", "\r\n")

# DeepSeek-V2 enumerates its letters. Escapes, because many of these have look-alikes elsewhere in Unicode.
V2_LETTERS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
    "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15"
    "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113"
    "\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
    "\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+")
V2_PUNCTUATION = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
V2_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def byte_level(add_prefix_space: bool, trim_offsets: bool, use_regex: bool | None) -> dict:
    """use_regex None leaves the key out, as older files do: it then counts as true."""
    step = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets}
    return step if use_regex is None else step | {"use_regex": use_regex}


def split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(kind: str, *steps: dict) -> dict:
    return {"type": "Sequence", kind: list(steps)}


def bos_template(token: str, token_id: int) -> dict:
    special, a, b = ({"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}})
    return {
        "type": "TemplateProcessing", "single": [special, a],
        "pair": [special, a, {"SpecialToken": {"id": token, "type_id": 1}}, b],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }


def added(content: str, special: bool = True, **flags: bool) -> dict:
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special} | flags


@dataclass
class Pipeline:
    name: str
    vocab_size: int                    # of the model; added tokens that are not listed in front come after it
    added: list[dict]
    normalizer: dict | None = None
    pre_tokenizer: dict | None = None
    post_processor: dict | None = None  # "BOS" stands for the template that puts the first added token in front
    decoder: dict | None = None
    model: dict = field(default_factory=dict)  # keys of the model besides vocab and merges
    front: int = 0                     # so many added tokens have the model's first ids
    byte_tokens: bool = False          # <0x00> ... <0xFF> in the vocabulary
    merges_as_text: bool = True        # "a b" as in published files, or ["a", "b"] as tokenizers >= 0.20 writes them


THINK = [added("<think>", special=False), added("</think>", special=False), added("<think>ing", special=False)]
STRIPPING = [added("<mask>", lstrip=True), added("<pad>", rstrip=True),
             added("<both>", special=False, lstrip=True, rstrip=True)]
GPT2_MODEL = {"dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
              "fuse_unk": False}
LATER_MODEL = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
               "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}

PIPELINES = [
    Pipeline(
        "gpt2", 600, [added("<|endoftext|>", normalized=True)] + STRIPPING,
        pre_tokenizer=byte_level(False, True, None), post_processor=byte_level(True, False, None),
        decoder=byte_level(True, True, None), model=GPT2_MODEL),
    Pipeline(
        "llama3", 660, [added("<|begin_of_text|>"), added("<|end_of_text|>"), added("<|eot_id|>"),
                        added("<|start_header_id|>"), added("<|end_header_id|>")] + THINK,
        pre_tokenizer=sequence("pretokenizers", split(LLAMA3_REGEX), byte_level(False, True, False)),
        post_processor=sequence("processors", byte_level(True, False, True), "BOS"), decoder=byte_level(True, True, True),
        model=LATER_MODEL | {"ignore_merges": True}, merges_as_text=False),
    Pipeline(
        "qwen", 640, [added("<|endoftext|>"), added("<|im_start|>"), added("<|im_end|>")] + THINK +
        [added("Vi\u1ec7t", special=False, normalized=True), added("Nam\u1ec7", special=False)],
        normalizer={"type": "NFC"},
        pre_tokenizer=sequence("pretokenizers", split(QWEN_REGEX), byte_level(False, False, False)),
        post_processor=byte_level(False, False, False), decoder=byte_level(False, False, False), model=LATER_MODEL),
    Pipeline(
        "gpt-4o", 640, [added("<|endoftext|>"), added("<|endofprompt|>")],
        pre_tokenizer=sequence("pretokenizers", split(O200K_REGEX), byte_level(False, True, False)),
        post_processor=byte_level(True, False, True), decoder=byte_level(True, True, True), model=LATER_MODEL),
    Pipeline(
        "deepseek-v3", 680, [added("<｜begin▁of▁sentence｜>"), added("<｜end▁of▁sentence｜>"), added("<｜▁pad▁｜>"),
                             added("<｜User｜>", special=False), added("<｜Assistant｜>", special=False)] + THINK,
        front=3, normalizer=sequence("normalizers"),
        pre_tokenizer=sequence(
            "pretokenizers", split(V3_DIGITS), split(V3_CJK), split(V3_REST), byte_level(False, True, False)),
        post_processor=byte_level(True, False, True), decoder=byte_level(True, True, True),
        model={key: value for key, value in LATER_MODEL.items() if key != "ignore_merges"}),
    Pipeline(
        "deepseek-v2", 620, [added("<｜begin▁of▁sentence｜>", normalized=True),
                             added("<｜end▁of▁sentence｜>", normalized=True)] + THINK,
        normalizer=sequence("normalizers"),
        pre_tokenizer=sequence(
            "pretokenizers", split("[\r\n]"), split(V2_LETTERS), split(V2_PUNCTUATION), split(r"\s+$"), split(V2_CJK),
            {"type": "Digits", "individual_digits": True}, byte_level(False, True, False)),
        post_processor=byte_level(True, False, True), decoder=byte_level(True, True, True),
        model={key: value for key, value in LATER_MODEL.items() if key != "ignore_merges"}),
    Pipeline(
        "llama2", 660, [added("<unk>"), added("<s>"), added("</s>")] + STRIPPING + THINK, front=3, byte_tokens=True,
        normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "▁"},
                            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
        post_processor="BOS",
        decoder=sequence("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                         {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}),
        model={"dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
               "fuse_unk": True, "byte_fallback": True}),
]


# Text to train on -----------------------------------------------------------------------------------------------------

CORPUS = [
    "The key-value cache keeps what attention has computed: a key and a value for every token, layer and head.",
    "Without the cache each new token would compute the keys and values of all the tokens before it again and again.",
    "A cache that is allocated once is faster than a cache that grows, because growing means copying what is there.",
    "The latent cache keeps one small vector per token and rebuilds the keys and values of every head from it.",
    "I'll say it once more: it's the cache, isn't it? They've seen that we're right, and I'd add that he'd agree. I'm sure.",
    "It'S the cache! I'LL SAY IT ONCE MORE. THEY'VE SEEN THAT WE'RE RIGHT. DON'T COPY.",
    "In 2017 there were 8 heads of 64; in 2024 there are 128 heads, 61 layers and 671 billion parameters (3.14159, 10,000).",
    "def forward(self, x):\n    for i in range(10):\n        x = self.layers[i](x)  # residual\n    return x\n\n\n",
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];\n\tif (sum > 1e-6) break;\n}\r\n",
    "Die größte Überraschung: schöne Grüße aus Köln. Ça va très bien, merci, déjà vu à l'été. ¿Dónde está el niño?",
    "Быстрая коричневая лиса прыгает через ленивую собаку. Кэш ключей и значений ускоряет вывод.",
    "键值缓存保存注意力已经计算过的内容。每个词元、每一层、每个头都有一个键和一个值。缓存让推理更快。",
    "キャッシュは計算済みのキーと値を保存します。カタカナとひらがなと漢字。",
    "캐시는 이미 계산한 키와 값을 저장합니다. 추론이 더 빨라집니다.",
    "ذاكرة التخزين المؤقت تحفظ المفاتيح والقيم. السلام عليكم ورحمة الله.",
    "कैश कुंजियों और मानों को सहेजता है। हिन्दी में लिखना अच्छा है।",
    "Việt Nam: bộ nhớ đệm lưu khóa và giá trị. Tiếng Việt có nhiều dấu.",
    "😀 😃 👍🏽 👩‍👩‍👧‍👦 🚀🚀 ❤️ emoji are long: 🇩🇪 🏴‍☠️",
]


# Without boundaries these would merge into long tokens: what shows that a pre-tokenizer cut in the wrong place.
PROBES = [
    "0123456789", "12345678", "2024", "00", " 1", " 12", "a1", "1a", "9.9", "1,0", "\u0663\u0664", "\u00bd", "\u952e1",
    "1\u4e2a",
    "'LLama", "'llama", "'Seven", "'seven", "'Reno", "'tis", "'mm", "'dd", "n't", "N'T", "'s ", "o'c", "e's", "E'S",
    "  x", "   x", "\t\tx", " \n", "\n ", "\n\n  x", "\r\n\r\n", "\r\nx", "x\r\n", "a\n\nb", ".\n", ")\n\n", "  \n   b",
    "\n\tx", "  1", "   \u952e",
    "(a)", "_b", "/b", "#in", "@na", "$va", "-x", "--fl", ".bar", "!im", "?!", " (", " !", ");", "x;", "\\fr", "\n}",
    "\u00a1H", "\u201cq",
    "e\u0301", "\u00e9e", "n\u0303o", "\u0928\u094d", "\u0928\u094d\u0926\u0940", "\u0645\u064f", "\u0645 ", "\u0645  ",
    "\U0001f600  ", "\u952ec", "e\u952e", "\u4f60\u597d\uff0c", "\uff0c\u4e16", "\u30cf\u306f", "\uce90\uc2dc",
    "\u00a0b", "\u3000d", "\u200bh", "a\U0001f600", "\U0001f44d\U0001f3fd", "\u200d\U0001f469", "\u2764\ufe0f", "\x00b",
    "\x1b[", "\u00dfe", "\u01c5 ",
]


def learn(tokenizer: Tokenizer, corpus: list[str], vocab_size: int, alphabet: list[str]) -> tuple[list, list]:
    """Words in the order of their ids, and merges."""
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def learn_bytes(pipeline: Pipeline) -> tuple[list, list]:
    """The merges of the probes first, then those that the pipeline's own pre-tokenizer gives."""
    def untrained(pre_tokenizer: dict) -> Tokenizer:
        return Tokenizer.from_str(json.dumps(whole(replace(pipeline, pre_tokenizer=pre_tokenizer, added=[]), {}, [])))

    alphabet, size = pre_tokenizers.ByteLevel.alphabet(), pipeline.vocab_size - pipeline.front
    crossing = learn(untrained(byte_level(False, True, False)), PROBES, size // 2 + 128, alphabet)
    own = learn(untrained(pipeline.pre_tokenizer), CORPUS, size // 2 + 128, alphabet)
    words, merges = ({str(item): item for item in first + second} for first, second in zip(crossing, own))
    return list(words.values()), list(merges.values())


def learn_words(pipeline: Pipeline) -> tuple[list, list]:
    """SentencePiece's way: whole characters, words start with the mark; other scripts fall back to bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    corpus = [re.sub("[^\x20-\u024f\u0400-\u044f]", " ", text) for text in CORPUS]
    alphabet = ["▁"] + [chr(c) for c in range(33, 127)]
    words, merges = learn(tokenizer, corpus, pipeline.vocab_size - 256 - pipeline.front, alphabet)
    runs_of_spaces = [["▁", "▁"], ["▁▁", "▁▁"]]  # as in Llama 2: without a pre-tokenizer they merge with one another
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    return byte_tokens + words + [a + b for a, b in runs_of_spaces], merges + runs_of_spaces


def train(pipeline: Pipeline) -> tuple[dict, list]:
    words, merges = (learn_words if pipeline.byte_tokens else learn_bytes)(pipeline)
    if pipeline.model.get("ignore_merges"):
        words += ["Ġserendipity", "zyzzyva"]  # no merge reaches them: one token all the same
    front = [token["content"] for token in pipeline.added[: pipeline.front]]
    return {word: i for i, word in enumerate(front + words)}, merges


def whole(pipeline: Pipeline, vocab: dict, merges: list) -> dict:
    """tokenizer.json."""
    first_free = len(vocab)
    ids = [i if i < pipeline.front else first_free + i - pipeline.front for i in range(len(pipeline.added))]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i} | token for i, token in zip(ids, pipeline.added)],
        "normalizer": pipeline.normalizer, "pre_tokenizer": pipeline.pre_tokenizer,
        "post_processor": with_bos(pipeline.post_processor, pipeline, ids) if ids else None,
        "decoder": pipeline.decoder,
        "model": {"type": "BPE"} | pipeline.model | {
            "vocab": vocab, "merges": [" ".join(merge) for merge in merges] if pipeline.merges_as_text else merges},
    }


def with_bos(post_processor, pipeline: Pipeline, ids: list[int]):
    """llama2's template adds <s>, its second added token; llama3's the first."""
    bos = 1 if pipeline.byte_tokens else 0
    template = bos_template(pipeline.added[bos]["content"], ids[bos])
    if post_processor == "BOS":
        return template
    if post_processor.get("type") == "Sequence":
        return sequence("processors", *(template if step == "BOS" else step for step in post_processor["processors"]))
    return post_processor


# Text to encode -------------------------------------------------------------------------------------------------------

TEXTS = [
    "", " ", "  ", "   ", "a", " a", "a ", "  a  ", "Hello, world!", "Hello  world", "Hello   world    again",
    "The key-value cache keeps what attention has computed.", " leading space", "trailing space ", "   three leading",
    "serendipity", " serendipity zyzzyva", "zyzzyva",
    # contractions
    "I'll don't we've it's you're I'm he'd", "I'LL DON'T WE'VE IT'S YOU'RE I'M HE'D", "'S 'T 'RE 'VE 'M 'LL 'D",
    "'s't're've'm'll'd", "rock'n'roll o'clock 'tis", "it\u2019s a curly quote", "it'\u017f a long s", "''s '' '",
    # digits
    "1", "12", "123", "1234", "12345", "1234567890", "3.14159", "10,000,000", "2024-07-01T12:34:56Z",
    "x86_64 v2.0-rc1 0x1F",
    "\u0661\u0662\u0663\u0664", "\u0967\u0968\u0969", "\u00bd \u00b2 \u2167 \u2460", "\uff11\uff12\uff13\uff14",
    "a1b22c333d4444", "a   123", "a   \u952e", "  12\n  34",
    # white space
    "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", "\t\t", " \n", "\n ", "a\nb", "a\n\nb", "a \n b", "a\n  b", "\r\n\n  x",
    "x\t\ty", "x \t y",
    "x\r y", "line one\nline two\r\nline three\rline four\n", "end of line  \n", "end of text   ", "a  \n\n   b",
    "\t\n \t\n x",
    "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g\u200bh\ufeffi", "\u3000\u3000x", "\x0b\x0c\x1c\x1d\x1e\x1f",
    # control characters
    "\x00", "a\x00b", "\x01\x02\x7f", "\x1b[31mred\x1b[0m", "\ufffd", "\ufffe\uffff", "\U0010ffff",
    # punctuation and code
    "!@#$%^&*()_+-=[]{}|;':\",./<>?`~", "...", "--- ***", "(a)", "a/b/c", "foo.bar_baz(qux)",
    "#include <vector>\n\nint main() {\n\treturn 0;\n}\n",
    "def forward(self, x):\n    for i in range(10):\n        x = x + 1  # why\n    return x\n",
    "{\"a\": [1, 2.5e-3, null], \"b\": \"\\n\"}",
    "https://example.org/a?b=c&d=%20e#f", "user@example.org", "<html><b>bold</b></html>", "\\frac{1}{\\sqrt{d}}",
    "!important $variable @name #tag",
    "--flag=value -x", "?!\n", "end.\n\nNext", "\u201cquoted\u201d \u2018single\u2019 \u2014 dash \u2026",
    "\u00a1Hola! \u00bfQu\u00e9?", "\u20ac5 \u00a310 \u00a520 100\u00b0 \u00b1\u2248\u2260",
    # Latin, composed and decomposed
    "caf\u00e9", "cafe\u0301", "\u00e9e\u0301", "\u1ec7 e\u0302\u0323 e\u0323\u0302", "\u00c5 A\u030a \u212b",
    "\ufb01 \ufb03", "\u01c5 \u01c4 \u01c6", "stra\u00dfe STRASSE",
    "gr\u00f6\u00dfte \u00dcberraschung", "na\u00efve fa\u00e7ade co\u00f6perate", "Z\u0351\u036b\u0343algo\u0341",
    # other scripts
    "\u0411\u044b\u0441\u0442\u0440\u0430\u044f \u043b\u0438\u0441\u0430",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u03a9 \u2126", "\u05e9\u05dc\u05d5\u05dd",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u0639\u0644\u064a\u0643\u0645",
    "\u0645\u064f\u0640\u062d\u064e\u0645\u0651\u064e\u062f",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u0932\u093f\u0916\u0928\u093e",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\u10e5\u10d0\u10e0\u10d7\u10e3\u10da\u10d8",
    "\u952e\u503c\u7f13\u5b58\u4fdd\u5b58\u6ce8\u610f\u529b\u3002", "\u952e\u503ccache\u7f13\u5b58123\u4e2a",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\uff1a\uff1b", "\u30ad\u30e3\u30c3\u30b7\u30e5\u306f\u901f\u3044\u3067\u3059",
    "\uce90\uc2dc\ub294 \ube60\ub974\ub2e4", "\u1112\u1161\u11ab",
    "\U00020000\U0002a6d6 \u3400 \u9fa6", "\uac00\u3131", "Ti\u1ebfng Vi\u1ec7t", "Tie\u0302\u0301ng Vie\u0323\u0302t",
    "\U0001d4d0\U0001d7d8 math",
    # emoji
    "\U0001f600", "a\U0001f600b", "\U0001f44d\U0001f3fd", "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\u2764\ufe0f", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f3f4\u200d\u2620\ufe0f ok",
    " \U0001f680\U0001f680 go",
    # long
    "a" * 300, "pneumonoultramicroscopicsilicovolcanoconiosis" * 5, " " * 100, "ab" * 100 + " " + "1" * 50, "\n" * 20,
    "\u952e" * 40, "=" * 80,
    # what looks like tokens of the vocabulary
    "\u2581", "a\u2581b", "\u2581\u2581", "\u0120", "\u0120the\u010a", "<0x41>", "<0x0A>x", "<unk>", "<s>a</s>",
]


def texts_about(token: str) -> list[str]:
    return [token, token * 2, f"a{token}b", f"a {token} b", f"a  {token}  b", f"\n{token}\n", f" {token}", f"{token} ",
            f"{token[:-1]} {token[1:]}", token[:-1] + token, token.upper()]


def texts_for(tokenizer: Tokenizer) -> list[str]:
    tokens = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    texts = TEXTS + PROBES + ["x " + " x ".join(PROBES) + " x"] + [text for token in tokens for text in texts_about(token)]
    texts.append("".join(tokens))
    texts.append(" mixed ".join(tokens) + "\u952e 123")
    texts += ["<think>ing about</think>", "<think>in", "<think><think>ing>", "<<think>>",
              "Vie\u0323\u0302t Vi\u1ec7t Vi\u00ea\u0323t Name\u0323\u0302 Nam\u1ec7"]
    return list(dict.fromkeys(texts))


def encode_cases(tokenizer: Tokenizer) -> list[dict]:
    cases = []
    for text in texts_for(tokenizer):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        ids_with_special = tokenizer.encode(text, add_special_tokens=True).ids
        cases.append({
            "text": text, "ids": ids, "ids_with_special": ids_with_special,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "decoded_skip_special": tokenizer.decode(ids_with_special, skip_special_tokens=True)})
    return cases


def decode_cases(tokenizer: Tokenizer) -> list[dict]:
    """Every head and tail of texts whose characters take several tokens, a stray byte, and special tokens in odd places."""
    id_lists = [[]]
    for text in ("\U0001f469\u200d\U0001f467", "\u952e\U00020000x", "e\u0301 \u0928\u094d", " a b"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        id_lists += [ids[:i] for i in range(1, len(ids) + 1)] + [ids[i:] for i in range(1, len(ids))] + [ids[::-1]]
    added_ids = sorted(tokenizer.get_added_tokens_decoder())
    word = tokenizer.encode(" cache", add_special_tokens=False).ids
    half = tokenizer.encode("\U0001f469", add_special_tokens=False).ids[:1]
    id_lists += [added_ids, added_ids[:1] + word, word + added_ids[:1] + word, half + added_ids[:1] + half]
    id_lists += [half + word, word + half * 3]
    return [{"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)} for ids in id_lists]


# Mistakes that a golden must notice -----------------------------------------------------------------------------------

MISTAKES = [
    (r"\p{Lo}", ""), (SUFFIX, ""), (UPPER + "*" + LOWER + "+", r"\p{L}+"),
    ("{1,3}", ""), ("{1,3}", "+"), (r"|\p{N}|", r"|\p{N}+|"), ("(?i:", "(?:"), ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|", ""),
    (r"|\s+(?!\S)", ""), (r"[\r\n]*", ""), (r"\s*[\r\n]+|", ""), (r"[^\r\n\p{L}\p{N}]?", ""), (r"\p{M}", ""), (r"\p{S}", ""),
    ("[^\r\n\\p{L}\\p{P}\\p{S}]?", ""), ("]+[\r\n]*", "]+"), (V3_REST.split("|[^")[0] + "|", ""), (r"\s?", ""),
]


def wrong_pre_tokenizers(pipeline: Pipeline):
    """(what is wrong, pre-tokenizer): a step left out, a pattern changed, or another pipeline's."""
    steps = pipeline.pre_tokenizer.get("pretokenizers", [])
    for i, step in enumerate(steps[:-1]):  # the last is ByteLevel, without which nothing works
        yield f"without step {i}", sequence("pretokenizers", *steps[:i], *steps[i + 1:])
        pattern = step.get("pattern", {}).get("Regex", "")
        for old, new in MISTAKES:
            if old in pattern:
                changed = steps[:i] + [split(pattern.replace(old, new))] + steps[i + 1:]
                yield f"{old!r} -> {new!r}", sequence("pretokenizers", *changed)
    for other in PIPELINES:
        if other.pre_tokenizer not in (None, pipeline.pre_tokenizer):
            yield f"that of {other.name}", other.pre_tokenizer


def wrong_pipelines(pipeline: Pipeline):
    if pipeline.pre_tokenizer:
        for name, pre_tokenizer in wrong_pre_tokenizers(pipeline):
            yield name, replace(pipeline, pre_tokenizer=pre_tokenizer)
    if pipeline.normalizer not in (None, sequence("normalizers")):
        yield "without normalizer", replace(pipeline, normalizer=None)
    if pipeline.model.get("ignore_merges"):
        yield "with merges only", replace(pipeline, model=pipeline.model | {"ignore_merges": False})
    for flag in ("lstrip", "rstrip", "normalized"):
        if any(token[flag] for token in pipeline.added) and (flag != "normalized" or pipeline.normalizer == {"type": "NFC"}):
            yield f"without {flag}", replace(pipeline, added=[token | {flag: False} for token in pipeline.added])


def require_telling(pipeline: Pipeline, vocab: dict, merges: list) -> None:
    cases = json.loads((HERE / "tokenizers" / pipeline.name / "cases.json").read_text())
    for name, mistaken in wrong_pipelines(pipeline):
        wrong = Tokenizer.from_str(json.dumps(whole(mistaken, vocab, merges)))
        noticed = sum(wrong.encode(case["text"], add_special_tokens=False).ids != case["ids"] for case in cases)
        print(f"  {name}: {noticed} texts differ")
        assert noticed


# Files ----------------------------------------------------------------------------------------------------------------

def write_json(path: Path, rows: list[dict]) -> None:
    """One row a line; ASCII only, so that no editor or checkout changes the text."""
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def write_goldens(folder: Path, tokenizer: Tokenizer) -> None:
    cases, partial = encode_cases(tokenizer), decode_cases(tokenizer)
    write_json(folder / "cases.json", cases)
    write_json(folder / "decode_cases.json", partial)
    size = sum(file.stat().st_size for file in folder.iterdir())
    changed = sum(case["decoded"] != case["text"] for case in cases)
    print(f"{folder.name:12} {size / 1000:4.0f} kB  {len(cases)} texts ({changed} do not decode to themselves), "
          f"{len(partial)} id lists, vocabulary {tokenizer.get_vocab_size()}")


def make_case(pipeline: Pipeline) -> None:
    folder = HERE / "tokenizers" / pipeline.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    vocab, merges = train(pipeline)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(whole(pipeline, vocab, merges), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_goldens(folder, Tokenizer.from_file(str(file)))
    require_telling(pipeline, vocab, merges)


def make_tiny() -> None:
    """Goldens of the tokenizer that this project ships."""
    if TINY.exists():
        folder = HERE / "tokenizers" / "tiny"
        folder.mkdir(parents=True, exist_ok=True)
        write_goldens(folder, Tokenizer.from_file(str(TINY)))


def main(names: list[str] = []) -> None:
    """All cases, or some by name."""
    for pipeline in PIPELINES:
        if not names or pipeline.name in names:
            make_case(pipeline)
    make_tiny()


if __name__ == "__main__":
    main(sys.argv[1:])
