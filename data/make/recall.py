"""Documents that can only be predicted by looking back: facts, lists, copies, needles in a story.

A language model gets fluent long before it can fetch a fact from its context. These documents are the dense
lesson: almost every answer token is decided by one earlier place in the text, which is what a KV cache is for.
"""

from stories import story
from words import ANIMALS, COLORS, FOODS, NAMES, PLACES, THINGS, TOYS

BOS, EOS, USER, ASSISTANT = "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"

ATTRIBUTES = {"favorite color": COLORS, "favorite toy": TOYS, "favorite food": FOODS, "favorite animal": ANIMALS,
              "favorite place": PLACES, "secret word": THINGS}
NUMBERS = ("magic number", "secret code", "door number")
ALL_WORDS = NAMES + COLORS + THINGS


def digits(random, count=3):
    return "".join(str(random.randrange(10)) for _ in range(count))


def turn(question, answer):
    return f"{USER}{question}{ASSISTANT}{answer}{EOS}"


def random_attribute(random):
    return random.choice(list(ATTRIBUTES)) if random.random() < 0.6 else random.choice(NUMBERS)


def random_value(random, attribute):
    return random.choice(ATTRIBUTES[attribute]) if attribute in ATTRIBUTES else digits(random)


def fact(random, name, attribute, value):
    prefix = random.choice(["The", "The", "Remember that the"])
    return f"{prefix} {attribute} of {name} is {value}."


def question(random, name, attribute):
    """A question about a fact and the beginning of its answer, up to the value."""
    ask = random.choice([f"What is the {attribute} of {name}?", f"Tell me the {attribute} of {name}."])
    return ask, f"The {attribute} of {name} is"


def facts_about(random, names):
    """One fact per name; in half of the cases all about the same attribute, so only the name tells them apart."""
    shared = random_attribute(random)
    same = random.random() < 0.5
    attributes = [shared if same else random_attribute(random) for _ in names]
    return [(name, attribute, random_value(random, attribute)) for name, attribute in zip(names, attributes)]


def ask_all(random, facts):
    text = ""
    for name, attribute, value in facts:
        ask, answer = question(random, name, attribute)
        text += turn(ask, f"{answer} {value}.")
    return text


def filler(random, size, taken):
    """Sentences of stories, about `size` characters, in which nobody of `taken` plays."""
    sentences, length = [], 0
    while length < size:
        told, _ = story(random, taken=taken)
        sentences += told
        length += sum(len(s) + 1 for s in told)
    return sentences


def needle_document(random, size):
    """Facts planted in stories and asked for at the end."""
    names = random.sample(NAMES, random.choice([1, 2, 2, 3, 4, 6, 8]))
    facts = facts_about(random, names)
    sentences = filler(random, size, names)
    for each in facts:
        sentences.insert(random.randrange(len(sentences) + 1), fact(random, *each))
    random.shuffle(facts)
    return BOS + " ".join(sentences) + ask_all(random, facts)


def list_document(random):
    """A table of facts and questions about its rows."""
    facts = facts_about(random, random.sample(NAMES, random.randrange(2, 11)))
    asked = random.sample(facts, len(facts))
    style = random.randrange(3)
    if style == 0:
        return BOS + " ".join(fact(random, *each) for each in facts) + ask_all(random, asked)
    text = BOS + random.choice(["Here is a list.", "This is what we know.", "Look at the list."]) + "\n"
    text += "".join(f"{name}: {value}\n" for name, _, value in facts)
    for name, _, value in asked:
        text += turn(f"{name}?", f"{value}.") if style == 1 else turn(f"What is next to {name}?", f"{name}: {value}.")
    return text


def copy_document(random):
    """Repeat after me, and lists of pairs that are read again in another order."""
    style = random.randrange(3)
    if style == 2:
        return pairs_document(random, readings=random.randrange(2, 4))
    text = BOS
    for _ in range(random.randrange(1, 4)):
        words = (digits(random, random.randrange(3, 10)) if style == 1 else
                 " ".join(random.choice(ALL_WORDS) for _ in range(random.randrange(3, 14))))
        text += turn(f"Repeat after me: {words}.", f"{words}.")
    return text


def pairs_document(random, readings):
    names = random.sample(NAMES, random.randrange(2, 10))
    numeric = random.random() < 0.4
    value = {name: digits(random) if numeric else random.choice(COLORS + THINGS) for name in names}
    lines = [", ".join(f"{name} {value[name]}" for name in random.sample(names, len(names))) + "."
             for _ in range(readings)]
    return BOS + "\n".join(lines) + EOS


def echo_document(random):
    """A random list read again and again: the densest lesson in copying, used before everything else."""
    style = random.randrange(4)
    readings = random.randrange(2, 6)
    if style == 0:
        words = " ".join(random.choice(ALL_WORDS) for _ in range(random.randrange(4, 16)))
        return BOS + " ".join([words + "."] * readings) + EOS
    if style == 1:
        return BOS + " ".join([digits(random, random.randrange(4, 16)) + "."] * readings) + EOS
    if style == 2:
        return pairs_document(random, readings)
    facts = facts_about(random, random.sample(NAMES, random.randrange(2, 6)))
    lines = [" ".join(f"The {attribute} of {name} is {value}." for name, attribute, value in
                      random.sample(facts, len(facts))) for _ in range(readings)]
    return BOS + "\n".join(lines) + EOS
