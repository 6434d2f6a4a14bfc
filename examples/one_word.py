"""The same function over threads or processes: one word is the difference.

    python examples/one_word.py processes 20000 20001 20002

The function knows nothing of it. Which word is faster is measured, not guessed: `unisono explain one_word.py:primes`.
"""

import sys

import unisono


def primes(limit):
    """How many primes there are below a number."""
    sieve = bytearray([1]) * limit
    sieve[:2] = bytes(min(2, limit))
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve)


def main(executor, limits):
    """Print the number of primes below each limit."""
    for outcome in unisono.batch(primes, limits, executor=executor, keep_order=True):
        print(outcome.item, outcome.check())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python examples/one_word.py threads|processes NUMBER...")
    main(sys.argv[1], [int(word) for word in sys.argv[2:]])
