"""Seeded damage to media files: bytes flipped, cut out, spliced in, boxes and elements resized."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Mutation = Callable[[random.Random, bytearray, bytes], bytearray]

_BOX = re.compile(rb"[a-z0-9]{4}")


def flip(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """Up to 50 bits, near each other or all over the file."""
    near = rng.random() < 0.5
    start, reach = (rng.randrange(len(data)), 200) if near else (0, len(data))
    for _ in range(rng.randint(1, 50)):
        data[(start + rng.randrange(reach)) % len(data)] ^= 1 << rng.randrange(8)
    return data


def cut(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A stretch is gone, or the end."""
    start = rng.randrange(len(data))
    end = len(data) if rng.random() < 0.4 else start + rng.randrange(1, len(data))
    del data[start:end]
    return data


def zero(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A stretch is zeros, or the same byte again and again."""
    start = rng.randrange(len(data))
    length = min(rng.randrange(1, 1 + len(data) // 4), len(data) - start)
    data[start : start + length] = bytes([rng.choice([0, 0, 0xFF, 0x47])]) * length
    return data


def splice(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A stretch of another file stands in the middle."""
    start, at = rng.randrange(len(other)), rng.randrange(len(data))
    data[at : at + rng.choice([0, 100])] = other[start : start + rng.randrange(1, 20_000)]
    return data


def repeat(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A stretch stands there twice."""
    start = rng.randrange(len(data))
    part = data[start : start + rng.randrange(1, 5000)]
    data[start:start] = part
    return data


def resize(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """The four bytes before a box's name, or after any place, get another number."""
    names = [match.start() for match in _BOX.finditer(data) if match.start() >= 4]
    at = rng.choice(names) - 4 if names and rng.random() < 0.7 else rng.randrange(max(1, len(data) - 4))
    number = rng.choice([0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(1 << 32)])
    data[at : at + 4] = number.to_bytes(4, "big")
    return data


MUTATIONS: tuple[Mutation, ...] = (flip, cut, zero, splice, repeat, resize)


def mutated(seed: int, data: bytes, other: bytes) -> bytes:
    """One to three mutations; the head of the file, where most is decided, is hit more often."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if not out:
            break
        mutation = rng.choice(MUTATIONS)
        if rng.random() < 0.3 and len(out) > 4096:
            out[:4096] = mutation(rng, out[:4096], other)
        else:
            out = mutation(rng, out, other)
    return bytes(out)
