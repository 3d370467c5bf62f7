"""The limits of the HTTP server for its clients: bytes, time and connection slots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits; times in seconds, sizes in bytes."""

    connections: int = 500
    """Connection slots.  Beyond them the connection that is longest without a complete request is closed."""
    reserve: int = 64
    """Further slots, in which only probes with a short head are answered."""
    unsent_bytes: int = 16 << 20
    """Unsent bytes of responses that clients do not read, for all connections together."""

    idle: float = 65.0
    """The time between two requests.  Longer than in nginx (60 s), so that the client closes first."""
    head: float = 10.0
    """The time from the connection, or the first byte of a later request, to the end of the head."""
    head_bytes: int = 32 << 10
    target_bytes: int = 8 << 10
    """The length of path and query."""
    headers: int = 100
    short_head: float = 2.0
    """The same as `head`, for reserve slots."""
    short_head_bytes: int = 4 << 10

    body: float = 20.0
    """The time for a part of a body: `rate` bytes for each of these seconds, or the rest."""
    body_bytes: int = 128 << 20
    """The application has lower limits of its own."""
    request: float = 600.0
    """The time from the first byte of a head to the last of its body, at any rate."""
    write: float = 20.0
    """The time for a client to read a part of a response, of the same size."""
    rate: int = 2 << 10
    """Bytes per second; slower clients count as stalled."""

    rest_bytes: int = 64 << 10
    """The bytes of an unread body that are read and dropped to keep the connection for the next request."""
    rest: float = 5.0
    linger_bytes: int = 256 << 10
    """The bytes that are read and dropped after the last response, so that the client can read it."""
    linger: float = 1.0
    half_closed: float = 10.0
    """The time for a part of a response after the client has closed its side, since it may be gone entirely."""

    drain: float = 0.3
    """On shutdown: the time for connected clients to send a request."""
    finish: float = 12.0
    """On shutdown: the time for running requests.  A probe may wait 10 s for a restarting daemon."""
