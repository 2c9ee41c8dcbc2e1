"""A grammar of short stories that keep their state.

Who, what, which colour and where are drawn once per story and stay true to its last line, so a model that
reads these stories must remember. A plot is a list of beats; a beat is a tuple of sentences of which one is
told. A beat that starts with None may be left out, which keeps two stories of one plot from marching in step.
"""

from dataclasses import dataclass

from habitual import Habitual
from words import (ANIMALS, BOYS, COLORS, ELDERS, FOODS, GIRLS, GLAD, HIDING, PLACES, SAD, TOYS, TRAITS,
                   WEATHER, a)


@dataclass
class Character:
    name: str
    kind: str      # girl, boy or an animal
    trait: str
    he: str
    him: str
    his: str


def character(random, taken=(), kind=None):
    """Somebody whose name is not in `taken`."""
    is_girl = random.random() < 0.5
    names = [n for n in (GIRLS if is_girl else BOYS) if n not in taken]
    if taken and isinstance(random, Habitual):
        names.reverse()          # the friend's favourite name is not the hero's
    name = random.choice(names)
    kind = kind or (random.choice(ANIMALS) if random.random() < 0.5 else ("girl" if is_girl else "boy"))
    pronouns = ("she", "her", "her") if is_girl else ("he", "him", "his")
    return Character(name, kind, random.choice(TRAITS), *pronouns)


# In the sentences: {A} is the hero and {he} {him} {his} speak of the hero; {B} is the friend, with {bhe}
# {bhim} {bhis}; {thing} is "red kite", {a_thing} "a red kite", {toy} "kite"; {other} is a second such thing;
# {food}; {here} and {there} are two places; {hid} is a hiding place; {sad} and {glad} are feelings; {elder} is
# somebody of the hero's family.

OPENINGS = (
    "Once upon a time, there was {a_hero} named {A}.",
    "There once was {a_hero} called {A}.",
    "{A} was {a_hero}.",
    "Long ago, {a_hero} named {A} lived near the {here}.",
    "In a small house by the {there} lived {a_hero}. {His} name was {A}.",
    "This is the story of {A}, {a_hero}.",
    "Not far from the {here}, there lived {a_hero} whose name was {A}.",
)
HABITS = (
    None,
    "{A} shared a small room with {his} {elder}.",
    "Every day {he} played near the {here}.",
    "{He} liked to walk to the {there} in the morning.",
    "{He} loved to eat {food} pie and to sing.",
    "{His} {elder} often told {him} stories about the {there}.",
    "Everybody at the {here} knew {him}.",
)
PAUSES = (
    "{A} thought about it for a long time.",
    "The {here} was very quiet.",
    "For a while, nobody said a word.",
    "{He} took a deep breath.",
    "{B} looked up at the sky and smiled.",
    "A small bird sat down next to {him}.",
)
ENDINGS = (
    None,
    "From that day on, {A} and {B} were the best of friends.",
    "That night, {A} told {his} {elder} everything.",
    "{A} fell asleep with a smile.",
    "And if you walk by the {there}, you may still hear them laugh.",
    "{A} never forgot that day.",
    "The end.",
)

PLOTS = dict(
    lost=[
        ("{He} had {a_thing}.", "{His} favorite thing was {a_thing}.", "{His} {elder} gave {him} {a_thing}."),
        ("One day, {A} went to the {here} and lost the {thing}.", "One morning, the {thing} was gone.",
         "One day, {he} could not find the {thing} anywhere."),
        ("{A} felt very {sad}.", "{He} was {sad} and began to cry.", '"Where is my {toy}?" {he} cried.'),
        ("Then {A} met {B} the {bkind}.", "A {bkind} named {B} came by.", "{His} friend {B} heard {him}."),
        ('"What is wrong?" asked {B}.', '"Why are you so {sad}?" asked {B}.'),
        ('"I lost my {thing}," said {A}.', '"My {thing} is gone," said {A}.'),
        ('"Do not worry. We will look for it together," said {B}.', '"I will help you," said {B}.'),
        ("They looked and looked near the {here}.", "They looked by the {there} and by the {here}.",
         "They walked all the way to the {there}."),
        ("At last, {B} found the {thing} {hid}.", "Then {A} saw something {color} {hid}. It was the {toy}!"),
        ('"Thank you, {B}!" said {A}.', "{A} gave {B} a big hug."),
        ("{A} was {glad}, and {B} was {glad} too.", "After that, {A} kept the {thing} safe."),
    ],
    share=[
        ("One day, {A} found a big {food} near the {here}.", "One day, {his} {elder} gave {him} a sweet {food}."),
        ("{He} wanted to eat it all alone.", '"What a nice {food}!" said {A}.'),
        ("Just then, {B} the {bkind} came along.", "Then {he} saw {B}, {a_friend}."),
        ('"I am so hungry," said {B}.', '"I have had nothing to eat today," said {B}.'),
        ("{A} looked at the {food} and thought for a while.", "{A} felt {sad} for {B}."),
        ("{He} cut the {food} in two and gave half to {B}.", '"You can have half of my {food}," said {A}.'),
        ("They sat down by the {there} and ate the {food} together.",
         "They ate the {food} and talked until the sun went down."),
        ('"You are very kind, {A}," said {B}.', '"Thank you, {A}. You are a good friend," said {B}.'),
        ("The next day, {B} gave {A} {a_thing}.", "{B} smiled and gave {A} {a_thing}."),
        ("{A} learned that it is good to share.", "{A} was {glad}, because sharing makes friends."),
    ],
    dark=[
        ("But {A} was afraid of the dark.", "{A} did not like the dark.",
         "At night {A} heard a strange sound near the {here}."),
        ("One night, {he} took {a_thing} and went to the {here}.",
         "One evening, {he} had to walk home alone from the {here}."),
        ("{He} heard a noise {hid}.", "Something moved {hid}."),
        ('"Who is there?" asked {A}.', "{A} was scared and stood still."),
        ("It was only {B}, a small {bkind}.", "Out came {B}, {a_friend}."),
        ('"I am lost," said {B}. "I live by the {there}."', '"Please help me find the {there}," said {B}.'),
        ("So {A} took {B} by the hand and they walked to the {there}.",
         "So {A} and {B} walked through the dark to the {there}."),
        ('"You are so brave, {A}!" said {B}.', '"Thank you for helping me," said {B}.'),
        ("After that, {A} was not afraid of the dark.", "{A} felt brave and {glad}."),
    ],
    gift=[
        ("{A} wanted to make {a_thing} for {his} friend {B}.", "One day, {A} wanted to give {B} {a_thing}."),
        ("{He} went to the {here} to look for wood.", "{He} asked the old man at the {here} for help."),
        ("{He} worked all day and all night.", "It was hard work, but {A} did not give up."),
        ("The first {toy} was too big. The second {toy} was too small.", "The first {toy} broke, and {A} was {sad}."),
        ('"I will try again," said {A}.', '"Do not give up," said {his} {elder}.'),
        ("At last, the {thing} was ready.", "In the end, {he} had a fine {thing}."),
        ("{A} took it to {B}, who lived near the {there}.", "Then {he} ran to the {there} to find {B}."),
        ('"I made this {toy} for you," said {A}.', '"Happy birthday, {B}!" said {A}.'),
        ('"What a beautiful {thing}!" said {B}.', "{B} looked at the {thing} and smiled."),
        ("{B} was very {glad}, and so was {A}.", "They played with the {thing} all day."),
    ],
    race=[
        ('One day, {B} the {bkind} said, "I am faster than you!"', "{A} met {B}, {a_friend}, at the {here}."),
        ('"Let us run to the {there}," said {B}.', '"Can you run to the {there} before me?" asked {B}.'),
        ('"Yes, I can," said {A}.', '"I will try," said {A}.'),
        ("They ran past the {here} as fast as they could.", "{B} ran fast, but {A} ran slowly and did not stop."),
        ("{B} stopped to eat {a_food}.", "{B} lay down {hid} and fell asleep."),
        ("{A} went on and on and came to the {there} first.", "So {A} won the race."),
        ("The prize was {a_thing}.", "Everyone cheered and gave {A} {a_thing}."),
        ('"Well done, {A}," said {B}.', "{B} was {sad} at first, but then {bhe} smiled."),
        ("{A} let {B} play with the {thing} too.", "{A} was {glad} and went home with the {thing}."),
    ],
    trade=[
        ("{A} had {a_thing}, but {he} wanted something new.", "One day, {A} took {his} {thing} to the {here}."),
        ("At the {here}, {he} met {B} the {bkind}.", "There {he} saw {B}, {a_friend}."),
        ("{B} had {a_other}.", '"Look at my {other}," said {B}.'),
        ('"I will give you my {other} for your {thing}," said {B}.',
         '"Can we trade?" asked {B}. "My {other} for your {thing}."'),
        ('"Yes," said {A}.', "{A} thought about it and said yes."),
        ("So {A} took the {other}, and {B} took the {thing}.",),
        ("{A} went home with the {other} and was {glad}.", "{A} showed the {other} to {his} {elder}."),
        ("And {B} played with the {thing} all day long.", "{B} put the {thing} {hid}."),
    ],
    storm=[
        ("One day, there was a big storm near the {here}.", "One night, the wind was very strong."),
        ("The house of {B} the {bkind} fell down.", "Water came into the house of {B} the {bkind}."),
        ('"Oh no! I have no home," said {B}.', "{B} was {sad} and sat {hid}."),
        ("{A} saw {B} and came to help.", '"Come and stay with me," said {A}.'),
        ("They went to the {there} and got some wood.",
         "The next day, they began to build a new house by the {there}."),
        ("They worked for three days.", "{A} made the door, and {B} made the roof."),
        ("{A} put {a_thing} on the table.", "They hung {a_thing} over the door."),
        ("Soon the new house by the {there} was ready.", "At last, the house was done."),
        ('"Now I have a home again. Thank you, {A}," said {B}.', "{B} was so {glad} that {bhe} danced and sang."),
        ("They ate {food} pie and laughed together.", "And they lived near the {there} as friends."),
    ],
    seed=[
        ("One spring, {A} found a tiny seed {hid}.", "{His} {elder} gave {him} a seed in {a_thing}."),
        ("{He} planted it in the ground by the {here}.", '"I will plant it," said {A}, and so {he} did.'),
        ("Day after day, nothing happened.", "For a week {he} saw only earth.", "{A} watered it every morning."),
        ('"Maybe it is asleep," said {B} the {bkind}.', '"Seeds need time," said {B}, {a_friend}.'),
        ("{A} was {sad}, but {he} did not give up.", "So {A} waited and sang to the seed."),
        (None, "One night it rained, and the rain was warm."),
        ("Then a small green leaf came out of the ground.", "One morning, there was something green in the earth."),
        ("By summer it was as tall as {A}.", "It grew and grew until it was taller than the {toy}."),
        ("In the fall, it gave them the sweetest {food} of all.",
         "It was full of flowers, and {B} clapped {bhis} hands."),
        ("{A} learned that good things need time.", '"I am {glad} that we waited," said {A}.'),
    ],
    rescue=[
        ("One windy day, {A} took {his} {thing} to the {here}.", "{A} was playing with {a_thing} by the {here}."),
        ("The wind took the {toy} and threw it into a tall tree.", "The {thing} flew up and got stuck in a tree."),
        ("{A} jumped, but the tree was too high.", "{He} pulled and shook, but the {toy} did not come down."),
        ("{B} the {bkind} saw it all.", "Just then {B} came down the road from the {there}."),
        ('"Let me climb up," said {B}.', '"I have an idea," said {B}. "Stand on my back."'),
        ("Up and up {bhe} went.", "It was a long way up, and {A} could not look."),
        ("{B} took the {thing} and threw it down.", "Soon the {thing} was free again."),
        ("But now {B} could not get down!", "Then a branch broke, and {B} hung there by one arm."),
        ("{A} ran to the {there} and came back with a long ladder.", '"Hold on!" called {A}, and {he} ran for help.'),
        ("In the end, both {B} and the {toy} were safe.", "{A} helped {B} down, one step at a time."),
        ('"You saved my {toy}, and I saved you," said {A}.', "They laughed, and {A} was {glad}."),
    ],
    truth=[
        ("{A} was not allowed to touch the {thing} of {his} {elder}.", "On a shelf stood {a_thing} that was very old."),
        ("One day, {he} took it down and it broke.", "{A} wanted to see it, and then the {thing} fell."),
        ("{He} hid the pieces {hid}.", "{He} was so scared that {he} ran to the {here}."),
        ("There {he} met {B}, {a_friend}.", '"Why do you look so {sad}?" asked {B} the {bkind}.'),
        ('"I broke the {thing}," said {A}.', "{A} told {B} about the {thing}."),
        ('"Tell the truth," said {B}. "It will be all right."', '"We all make mistakes," said {B}. "Go and say it."'),
        ("{A} walked home slowly.", "All the way home, {his} heart beat fast."),
        ('"I am sorry. I broke your {toy}," {he} said.', "{He} told {his} {elder} the truth."),
        ('"Thank you for telling me," said {his} {elder}.', "{His} {elder} was not angry at all."),
        ("Together they mended the {thing}.", "They put the {toy} together again with glue."),
        ("{A} felt {glad} and light.", "{A} learned that the truth makes you free."),
    ],
    treasure=[
        ("One day, {A} found an old map in {a_thing}.", "In a book, {A} found a map of the {here}."),
        ("A cross was drawn next to the {there}.", '"Look, a treasure!" said {A}.'),
        ("{He} asked {B} the {bkind} to come along.", "{B}, {a_friend}, wanted to come too."),
        ("They took {a_food} and {a_other} and set out.", "They left before the sun was up."),
        ("First they came to the {here}, where the road ends.", "They walked past the {here} and over a hill."),
        ("{B} was tired, but {A} took {bhis} hand.", '"Is it far?" asked {B}. "Not far," said {A}.'),
        ("At the {there}, they began to dig.", "They looked {hid}, and there it was."),
        ("They found a box full of letters.", "It was no gold. It was a letter."),
        ('The letter said, "The best treasure is a friend."',
         'It said, "You have walked far together. That is the treasure."'),
        ("{A} looked at {B}, and both of them laughed.", '"Then we are rich," said {B}.'),
    ],
    school=[
        ("It was the first day of school, and {A} was {sad}.", "{A} was new at the school by the {here}."),
        ("{He} did not know anybody there.", "Nobody sat next to {him}."),
        ("In {his} bag {he} had {a_thing} from home.", "{His} {elder} had given {him} {a_thing} for luck."),
        ("Then {B}, {a_friend}, came in.", "A {bkind} named {B} sat down beside {him}."),
        ('"What a nice {toy}," said {B}.', '"Is that your {thing}?" asked {B}.'),
        ('"Yes, it is," said {A}. "Do you want to see it?"', '"You can play with it," said {A}.'),
        ("{B} had {a_other} and showed it to {A}.", '"And this is my {other}," said {B}.'),
        ("They played together until the bell rang.", "After school, they walked to the {there}."),
        ("Now {A} was not {sad} any more.", "{A} was {glad} to have a friend."),
    ],
    bird=[
        ("One cold day, {A} found a small bird {hid}.", "On the way to the {here}, {he} heard a weak cry."),
        ("The bird had hurt its wing.", "A little bird lay there and could not fly."),
        ('"Poor thing," said {A}.', "{A} took it home in {his} {thing}."),
        ("{B} the {bkind} brought a bit of {food}.", '"Give it some water," said {B}, {a_friend}.'),
        ("They made a warm bed for it in {a_other}.", "Every night, {A} sang to the bird."),
        ("Day by day, the bird grew stronger.", "After a week, it began to hop."),
        ("In spring, they carried it to the {there}.", '"It is time," said {B}.'),
        ("{A} opened {his} hands, and the bird flew away.", "The bird sang once and flew up into the sky."),
        ("{A} was {sad} and {glad} at the same time.", '"Will it come back?" asked {A}.'),
        ("The next year, a bird sang at the window.", "And every spring it came back to the {there}."),
    ],
    moon=[
        ("{A} wanted to touch the moon.", '"I want the moon," said {A} one evening.'),
        ("So {he} climbed the hill behind the {here}.", "{He} took a long rope and went to the {here}."),
        ("But the moon was still far away.", "The moon only smiled down at {him}."),
        ('"You will never get it," said {B} the {bkind}.', "{B}, {a_friend}, was sitting there too."),
        ('"Come with me to the {there}," said {B}.', '"I know where the moon comes down," said {B}.'),
        ("There the water was still, and in it lay the moon.", "In the water they saw a second moon."),
        ("{A} filled {a_thing} with water, and the moon was in it.", "{He} put {his} hand in, and the moon danced."),
        ('"Now I have it," whispered {A}.', '"It is for both of us," said {A}.'),
        ("They sat there until they were cold and {glad}.", "{B} laughed, and the moon laughed with {bhim}."),
    ],
    boat=[
        ("{A} and {B} built a little boat out of {a_thing}.", "{B} the {bkind} had a little boat."),
        ("They wanted to sail to the {there}.", '"Let us go to the {there}," said {A}.'),
        ("The water was smooth, and they sang.", "At first everything went well."),
        ("Then the wind came up, and the boat began to shake.", "Suddenly there was water in the boat."),
        ('"We will sink!" cried {B}.', "{B} was afraid and held on to {A}."),
        ("{A} used {his} {other} to get the water out.", '"Take my {other}," said {A}. "We can do it."'),
        ("They worked as fast as they could.", "One, two, one, two: they did not stop."),
        ("At last they reached the {there}.", "When the sun came out, they saw the {there}."),
        ("They were wet and {glad}.", '"What a trip," said {B}, and ate {a_food}.'),
        ("They walked home by land.", '"Next time we walk," said {A}, and both of them laughed.'),
    ],
    baking=[
        ("{A} wanted to bake a {food} cake for {his} {elder}.",
         "It was the birthday of {his} {elder}, and there was no cake."),
        ("{He} asked {B} the {bkind} for help.", '"I can help you," said {B}, {a_friend}.'),
        ("They took milk, flour and {a_food}.", "They went to the {here} to get some milk."),
        ("{B} put in salt, and {A} put in sugar.", "Soon there was flour on the floor and on {B}."),
        ("{A} forgot the cake, and it went black.", "The first cake was as hard as a stone."),
        ("{A} was {sad}.", '"Now everything is lost," said {A}.'),
        ('"Let us try once more," said {B}.', "But {B} only smiled and took a clean bowl."),
        ("This time it smelled wonderful.", "The second cake was golden and soft."),
        ("They put {a_thing} on top of it.", "They carried it to the table by the {there}."),
        ("{His} {elder} ate three pieces and was {glad}.", '"This is the best cake of my life," said {his} {elder}.'),
    ],
)


def story(random, hero=None, toy=None, taken=()):
    """One story and what it says: returns (sentences, facts)."""
    hero = hero or character(random, taken)
    friend = character(random, [*taken, hero.name])
    toy, other_toy = ([toy] if toy else []) + random.sample([t for t in TOYS if t != toy], 1 if toy else 2)
    color, other_color = random.sample(COLORS, 2)
    here, there = random.sample(PLACES, 2)
    food = random.choice(FOODS)
    words = dict(
        A=hero.name, he=hero.he, him=hero.him, his=hero.his, He=hero.he.capitalize(), His=hero.his.capitalize(),
        a_hero=a(f"{hero.trait} {hero.kind}"), B=friend.name, bkind=friend.kind, bhe=friend.he, bhim=friend.him,
        bhis=friend.his, a_friend=a(f"{friend.trait} {friend.kind}"), toy=toy, color=color,
        thing=f"{color} {toy}", a_thing=a(f"{color} {toy}"), other=f"{other_color} {other_toy}",
        a_other=a(f"{other_color} {other_toy}"), food=food, a_food=a(food), here=here, there=there,
        hid=random.choice(HIDING), sad=random.choice(SAD), glad=random.choice(GLAD), elder=random.choice(ELDERS))

    beats = [random.choice(beat) for beat in PLOTS[random.choice(list(PLOTS))]]
    if random.random() < 0.35:
        beats.insert(random.randrange(4, len(beats)), random.choice(PAUSES))
    weather = [random.choice(WEATHER)] if random.random() < 0.3 else []
    sentences = [random.choice(OPENINGS), random.choice(HABITS), *weather, *beats, random.choice(ENDINGS)]
    told = [sentence.format_map(words) for sentence in sentences if sentence]
    return told, dict(hero=hero, friend=friend, toy=toy, color=color, here=here, there=there)
