"""The vocabulary of the little world in which every story, chat and puzzle takes place.

Most of these words become one token each, which keeps stories short and makes a planted fact a single
lookup instead of a spelling exercise.
"""

GIRLS = ("Lily Mia Anna Sue Rose Emma Lucy Nora Ella Zoe Ruby Clara Ivy Grace Daisy Maya Kate Jane "
         "Molly Amy").split()
BOYS = ("Tom Ben Max Sam Jack Leo Tim Dan Finn Luke Noah Adam Oscar Hugo Peter Paul Jim Fred Carl "
        "Owen").split()
NAMES = GIRLS + BOYS
ANIMALS = ("fox rabbit bear mouse cat dog duck frog owl hedgehog squirrel pig goat hen turtle "
           "deer").split()
PETS = "dog cat rabbit mouse duck turtle".split()
COLORS = "red blue green yellow white black brown pink golden silver".split()
TOYS = ("ball kite drum boat doll hat bell book cup box lamp key ring scarf basket spoon clock flute "
        "mirror rope").split()
FOODS = "apple pear cake pie carrot nut plum cookie berry fish egg bun".split()
PLACES = ("park forest garden river hill farm beach cave lake barn market school castle mill bridge "
          "village").split()
THINGS = ANIMALS + TOYS + FOODS + PLACES
TRAITS = "kind brave clever shy little gentle curious funny busy old young quiet".split()
SAD = "sad worried upset tired lonely cross".split()
GLAD = "happy glad proud excited thankful cheerful".split()
ELDERS = ("mother", "father", "grandmother", "grandfather", "aunt", "uncle")
HIDING = ("under the old tree", "behind the big rock", "near the well", "behind the red door",
          "on the high shelf", "in the tall grass", "beside the pond", "under the stone steps",
          "between two stones", "inside an empty pot")
WEATHER = ("The sun was warm and bright.", "A soft wind was blowing.", "It was a cold and rainy day.",
           "White clouds floated in the sky.", "The snow was deep and quiet.",
           "The birds were singing in the trees.", "There was fog over the fields.",
           "The leaves were red and gold.", "It had rained all night.", "The morning smelled of bread.")
SOUNDS = dict(dog="woof", cat="meow", duck="quack", pig="oink", mouse="squeak", owl="hoot", hen="cluck",
              goat="baa")
OPPOSITES = dict(big="small", hot="cold", day="night", up="down", fast="slow", old="new", happy="sad",
                 wet="dry", open="closed", early="late")


def a(words):
    """The words with their article: a fox, an owl."""
    return ("an " if words[0] in "aeiou" else "a ") + words
