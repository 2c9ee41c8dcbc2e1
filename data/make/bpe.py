"""A byte-level BPE tokenizer: training, encoding, and the Hugging Face tokenizer.json.

Text is cut into words by SPLIT (the pattern Qwen2 uses), each word becomes bytes, and the pair of neighbours
that is most frequent in the corpus is merged until the vocabulary is full. The encoder here is the
independent twin of the `tokenizers` library: prepare.py checks that both give the same ids.
"""

import collections
import json

import regex

SPECIAL = ["<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"]
PAD, BOS, EOS, USER, ASSISTANT = range(5)
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL_OR_TEXT = regex.compile("(" + "|".join(regex.escape(s) for s in SPECIAL) + ")")
WORDS = regex.compile(SPLIT)


def printable_bytes():
    """GPT-2's alphabet: every byte gets a printable character, so that merges are plain text in JSON."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in keep}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(keep))
    return table


LETTER = printable_bytes()
BYTE = {letter: byte for byte, letter in LETTER.items()}


def letters(word):
    return [LETTER[byte] for byte in word.encode()]


def merge(symbols, pair):
    """Replace every occurrence of the pair, left to right."""
    merged, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            merged.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def learn_merges(texts, count):
    """The `count` merges in order. Ties go to the pair that sorts last, so the result is reproducible."""
    frequency = collections.Counter()
    for text in texts:
        for part in SPECIAL_OR_TEXT.split(text):
            if part not in SPECIAL:
                frequency.update(WORDS.findall(part))
    words = [(letters(word), number) for word, number in frequency.items()]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for index, (symbols, number) in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += number
            where[pair].add(index)
    merges = []
    while len(merges) < count:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        if pairs[best] < 1:
            raise ValueError(f"learn_merges: the corpus has only {len(merges)} merges, {count} wanted")
        merges.append(best)
        for index in list(where[best]):
            symbols, number = words[index]
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] -= number
            symbols = merge(symbols, best)
            words[index] = (symbols, number)
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += number
                where[pair].add(index)
    return merges


def tokenizer_json(merges):
    """The dictionary that Hugging Face `tokenizers` reads."""
    vocabulary = SPECIAL + [LETTER[byte] for byte in range(256)] + [left + right for left, right in merges]
    added = [dict(id=i, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
             for i, content in enumerate(SPECIAL)]
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
    split = dict(type="Split", pattern=dict(Regex=SPLIT), behavior="Isolated", invert=False)
    begin = dict(SpecialToken=dict(id="<|bos|>", type_id=0))
    first, second = (dict(Sequence=dict(id=name, type_id=0)) for name in "AB")
    return dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None,
        pre_tokenizer=dict(type="Sequence", pretokenizers=[split, byte_level]),
        post_processor=dict(type="TemplateProcessing", single=[begin, first], pair=[begin, first, second],
                            special_tokens={"<|bos|>": dict(id="<|bos|>", ids=[BOS], tokens=["<|bos|>"])}),
        decoder=byte_level,
        model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None,
                   end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False,
                   vocab={token: i for i, token in enumerate(vocabulary)},
                   merges=[f"{left} {right}" for left, right in merges]))


class Tokenizer:
    """Encodes text in which special tokens are written out; adds none of its own."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            model = json.load(file)["model"]
        self.id_of = model["vocab"]
        self.token_of = {i: token for token, i in self.id_of.items()}
        self.rank = {tuple(pair.split(" ")): i for i, pair in enumerate(model["merges"])}
        self.known_words = {}

    def encode(self, text):
        ids = []
        for part in SPECIAL_OR_TEXT.split(text):
            if part in SPECIAL:
                ids.append(self.id_of[part])
            else:
                for word in WORDS.findall(part):
                    ids += self.encode_word(word)
        return ids

    def encode_word(self, word):
        if word not in self.known_words:
            symbols = letters(word)
            while len(symbols) > 1:
                best = min(zip(symbols, symbols[1:]), key=lambda pair: self.rank.get(pair, len(self.rank)))
                if best not in self.rank:
                    break
                symbols = merge(symbols, best)
            self.known_words[word] = [self.id_of[symbol] for symbol in symbols]
        return self.known_words[word]

    def decode(self, ids):
        pieces = (self.token_of[int(i)] for i in ids)
        return b"".join(piece.encode() if piece in SPECIAL else bytes(BYTE[letter] for letter in piece)
                        for piece in pieces).decode("utf-8", "replace")
