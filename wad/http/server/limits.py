"""What a client may take of the HTTP server: bytes, time and places."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Times in seconds, sizes in bytes."""

    connections: int = 500
    """Places.  Beyond them whoever is longest without a complete request is closed."""
    reserve: int = 64
    """Further places, in which a short head is read and only probes are answered."""
    unsent_bytes: int = 16 << 20
    """Of answers that clients do not take, all connections together."""

    idle: float = 65.0
    """Between two requests.  Longer than nginx keeps a connection (60 s): the client closes first."""
    head: float = 10.0
    """From a connection, or the first byte of a later request, to the end of the head."""
    head_bytes: int = 32 << 10
    target_bytes: int = 8 << 10
    """Path and query."""
    headers: int = 100
    short_head: float = 2.0
    """As `head`, in the reserve."""
    short_head_bytes: int = 4 << 10

    body: float = 20.0
    """For a part of a body to come: `rate` bytes for each of these seconds, or the rest."""
    body_bytes: int = 128 << 20
    """The application has lower limits of its own."""
    request: float = 600.0
    """From the first byte of a head to the last of its body, however fast it comes."""
    write: float = 20.0
    """For a client to take a part of an answer, of the same size."""
    rate: int = 2 << 10
    """Bytes a second; slower clients count as stalled."""

    rest_bytes: int = 64 << 10
    """So much of a body that the application did not read is read for the next request's sake."""
    rest: float = 5.0
    linger_bytes: int = 256 << 10
    """So much is read and dropped after the last answer of a connection, that the client gets to read it."""
    linger: float = 1.0
    half_closed: float = 10.0
    """For a part of an answer when the client has closed its side: it cannot be told from one that has gone."""

    drain: float = 0.3
    """At the end: for clients that are connected and have not asked yet."""
    finish: float = 12.0
    """At the end: for requests that are being answered.  A probe may wait 10 s for a daemon that starts again."""
