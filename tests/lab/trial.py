"""The type of a trial: a function, the state of its machine at the start, and whether it changes that state."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from tests.lab.world import World

Body = Callable[[World], Awaitable[None]]


class Begins(IntEnum):
    """A machine's state, each made from the one before.  All have an operator who may use sudo, and the package."""

    BARE = 0
    """wad is not installed."""
    INSTALLED = 1
    """wad runs and has no account."""
    PAIRED = 2
    """`shop` is connected, to a WhatsApp of this machine's own, and has received one message."""


@dataclass(frozen=True, slots=True)
class Trial:
    """`spoils`: the next trial needs another machine.  After every other one the lab checks that nothing changed."""

    name: str
    module: str
    body: Body
    begins: Begins
    spoils: bool


def trial(begins: Begins = Begins.PAIRED, *, spoils: bool = False) -> Callable[[Body], Trial]:
    """Make a trial of a function, under its name."""

    def make(body: Body) -> Trial:
        return Trial(body.__name__, body.__module__, body, begins, spoils)

    return make


def shuffled(trials: Sequence[Trial], seed: int | None) -> list[Trial]:
    """The trials in the order of this seed; unchanged without a seed."""
    order = list(trials)
    if seed is not None:
        random.Random(seed).shuffle(order)
    return order
