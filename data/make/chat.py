"""Conversations that refer back: names, pets, codes, sums, and stories with questions about them."""

from recall import BOS, digits, turn
from stories import character, story
from words import ANIMALS, COLORS, FOODS, NAMES, OPPOSITES, PETS, SOUNDS, TOYS, a


def tell_about_oneself(random, known):
    """The user tells something that a later turn may ask for."""
    first, later = ["name", "name", "pet", "color"], ["name", "pet", "color", "code", "food"]
    topic = random.choice(later if known else first)
    if topic == "name":
        known["name"] = name = random.choice(NAMES)
        return turn(random.choice([f"Hello, my name is {name}.", f"Hi! I am {name}.", f"Good morning. I am {name}."]),
                    random.choice([f"Hello, {name}! How can I help you?", f"Nice to meet you, {name}."]))
    if topic == "pet":
        known["pet"] = pet, name = random.choice(PETS), random.choice(NAMES)
        return turn(random.choice([f"I have a {pet}. Its name is {name}.", f"My {pet} is called {name}."]),
                    f"{name} is a nice name for a {pet}.")
    if topic == "color":
        known["color"] = color = random.choice(COLORS)
        return turn(f"My favorite color is {color}.",
                    random.choice([f"I like {color} too.", f"{color.capitalize()} is a beautiful color."]))
    if topic == "code":
        known["code"] = code = digits(random)
        return turn(f"My secret code is {code}. Please remember it.",
                    random.choice([f"I will remember that your secret code is {code}.", "I will remember it."]))
    known["food"] = food = random.choice(FOODS)
    return turn(f"I like to eat {food} pie.", f"That sounds good. {food.capitalize()} pie is sweet.")


def ask_what_is_known(random, known):
    topic = random.choice(list(known))
    value = known[topic]
    if topic == "pet":
        return turn(f"What is the name of my {value[0]}?", f"Your {value[0]} is called {value[1]}.")
    return turn(*dict(
        name=("What is my name?", f"Your name is {value}."),
        color=("What is my favorite color?", f"Your favorite color is {value}."),
        code=("What is my secret code?", f"Your secret code is {value}."),
        food=("What do I like to eat?", f"You like to eat {value} pie."))[topic])


def small_question(random):
    kind = random.randrange(5)
    if kind == 0:
        x, y = random.randrange(10), random.randrange(10)
        return turn(f"What is {x} plus {y}?", f"{x} plus {y} is {x + y}.")
    if kind == 1:
        y, x = sorted(random.choices(range(10), k=2))
        return turn(f"What is {x} minus {y}?", f"{x} minus {y} is {x - y}.")
    if kind == 2:
        first, count = random.randrange(1, 20), random.randrange(4, 9)
        numbers = ", ".join(str(n) for n in range(first, first + count + 1))
        return turn(f"Count from {first} to {first + count}.", f"{numbers}.")
    if kind == 3:
        animal, sound = random.choice(list(SOUNDS.items()))
        return turn(f"What does {a(animal)} say?", f"{a(animal).capitalize()} says {sound}.")
    word, opposite = random.choice(list(OPPOSITES.items()))
    return turn(f"What is the opposite of {word}?", f"The opposite of {word} is {opposite}.")


def ask_for_story(random):
    hero, toy = character(random), random.choice(TOYS)
    told, facts = story(random, hero=hero, toy=toy)
    request = random.choice([
        f"Tell me a story about {a(hero.kind)} named {hero.name}.", f"Tell me a story about {hero.name} and {a(toy)}.",
        f"Please tell me a story about {hero.name}.", f"Do you know a story about {a(hero.kind)}?", "Tell me a story."])
    return turn(request, " ".join(told)), (" ".join(told), facts)


def ask_about_story(random, told, facts):
    hero, friend = facts["hero"], facts["friend"]
    questions = [("Who is the story about?", f"The story is about {hero.name}.")]
    if f" {friend.kind}" in told:
        questions.append((f"Who is {friend.name}?", f"{friend.name} is {a(friend.kind)}."))
    if f"{facts['color']} {facts['toy']}" in told:
        questions += [(f"What color was the {facts['toy']}?", f"The {facts['toy']} was {facts['color']}.")] * 2
    return turn(*random.choice(questions))


def chat_document(random):
    text, known, last_story = BOS, {}, None
    for index in range(random.randrange(2, 9)):
        dice = random.random()
        if index == 0 and dice < 0.6 or dice < 0.2:
            text += tell_about_oneself(random, known)
        elif dice < 0.48 and known:
            text += ask_what_is_known(random, known)
        elif dice < 0.68:
            text += small_question(random)
        elif dice < 0.84 and last_story:
            text += ask_about_story(random, *last_story)
        else:
            spoken, last_story = ask_for_story(random)
            text += spoken
    return text
