"""A teller with habits: what stands first in a list is chosen most often.

Where all names are equally likely, a greedy reader always says the same one, for the hero and for the friend, and
its choice hangs on the last bits of a logit. A teller with habits has a favourite for each place.
"""

from random import Random


class Habitual(Random):

    def choice(self, options):
        return options[int(len(options) * self.random() ** 2)]

    def sample(self, population, k):
        left = list(population)
        return [left.pop(int(len(left) * self.random() ** 2)) for _ in range(k)]
