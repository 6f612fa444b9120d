"""Files with wrong bytes, parts left out, repeated, or put in from another one: the same ones each time."""

from collections.abc import Iterator, Sequence

import numpy as np


def spoilt(whole: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield so many files made from those that are whole, each with one to four faults."""
    random = np.random.default_rng(15)
    for number in range(count):
        data = bytearray(whole[number % len(whole)])
        for _ in range(random.integers(1, 5)):
            place, end = sorted(random.integers(0, max(1, len(data)), 2).tolist())
            other = whole[random.integers(len(whole))]
            match random.integers(5):
                case 0:
                    data[place : place + 1] = random.bytes(1)
                case 1:  # where headers are
                    data[place % 64 : place % 64 + 2] = random.bytes(2)
                case 2:
                    del data[place : min(end, place + 40)]
                case 3:
                    data[place:place] = data[place : min(end, place + 40)]
                case 4:
                    data[place:end] = other[place:end]
        yield bytes(data)
