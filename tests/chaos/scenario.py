"""The events of a run, drawn from its seed: messages, answers, and faults with their times."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MESSAGES = 500


class Kind(StrEnum):
    """A kind of fault."""

    WORKER = "worker"  # kill -9 of one account's worker
    DAEMON = "daemon"  # kill -9 of the daemon, which is started again
    BOTH = "both"  # kill -9 of the daemon and of every worker
    STOP_WORKER = "stop_worker"  # SIGSTOP of a worker for a while
    STOP_DAEMON = "stop_daemon"  # SIGSTOP of the daemon for a while
    RESTART = "restart"  # SIGINT, and a new start
    DISK = "disk"  # the disk is full for a while
    NETWORK = "network"  # connections are cut, and none is accepted for a while


@dataclass(frozen=True)
class Write:
    """A peer writes to an account `pause` seconds after the previous message; wad answers to `answer_to`."""

    peer: int
    account: int
    answer_to: int | None
    pause: float


@dataclass(frozen=True)
class Fault:
    """A fault, `delay` seconds after message number `after` was written; it lasts for `seconds` if it lasts."""

    kind: Kind
    after: int
    delay: float
    account: int
    seconds: float


@dataclass(frozen=True)
class Scenario:
    """Everything that is drawn.  Faults are in the order of their time."""

    seed: int
    kinds: tuple[Kind, ...]
    accounts: int
    peers: int
    apart: bool
    writes: tuple[Write, ...]
    faults: tuple[Fault, ...]

    def has(self, kind: Kind) -> bool:
        """Whether this kind of fault happens in it."""
        return any(fault.kind is kind for fault in self.faults)


def draw(
    seed: int, kinds: Sequence[Kind], *, messages: int = MESSAGES, apart: bool = False
) -> Scenario:
    """The scenario of a seed; the same arguments give the same.

    `apart`: answers are sent to a contact that does not write.  A message that arrives while another is sent in the
    same Signal session can make either unreadable (the library's own race): this way that never happens.
    """
    chance = random.Random(seed)
    accounts, peers = chance.randint(2, 3), chance.randint(3, 5)
    return Scenario(
        seed=seed,
        kinds=tuple(kinds),
        accounts=accounts,
        peers=peers,
        apart=apart,
        writes=tuple(_writes(chance, accounts, peers, messages, apart=apart)),
        faults=tuple(_faults(chance, kinds, accounts, messages)),
    )


def _writes(
    chance: random.Random, accounts: int, peers: int, messages: int, *, apart: bool
) -> list[Write]:
    """Bursts of 20 to 120 messages without a pause, between all peers and accounts; every tenth is answered."""
    found: list[Write] = []
    while len(found) < messages:
        pause = chance.uniform(0.0, 0.8)
        for _ in range(min(chance.randint(20, 120), messages - len(found))):
            peer = chance.randrange(peers - 1 if apart else peers)
            answer_to = (peers - 1 if apart else peer) if chance.random() < 0.1 else None
            found.append(Write(peer, chance.randrange(accounts), answer_to, pause))
            pause = 0.0
    return found


def _faults(
    chance: random.Random, kinds: Sequence[Kind], accounts: int, messages: int
) -> list[Fault]:
    found = [_fault(chance, kinds, accounts, messages) for _ in range(chance.randint(3, 6))]
    return sorted(found, key=lambda fault: (fault.after, fault.delay))


def _fault(chance: random.Random, kinds: Sequence[Kind], accounts: int, messages: int) -> Fault:
    kind = chance.choice(kinds)
    # A stopped worker: sometimes for longer than the daemon waits for an answer to its probe.
    longest = 7.0 if kind is Kind.STOP_WORKER else 3.0
    return Fault(
        kind=kind,
        after=chance.randint(1, messages),
        delay=chance.uniform(0.0, 0.2),
        account=chance.randrange(accounts),
        seconds=chance.uniform(0.2, longest),
    )
