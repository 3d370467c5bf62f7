"""Every setting of the daemon: what it means, its default, and what it must be."""

# ruff: noqa: RUF009, `setting` is a `dataclasses.field`
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_type_hints

from wad.config.declaration import (
    SECONDS,
    Derived,
    Relation,
    Setting,
    ValueCheck,
    between,
    like,
    one_of,
    rows,
    setting,
)
from wad.core import paths, token
from wad.core.networks import networks

if TYPE_CHECKING:
    from wad.config.origin import ValueOrigin

_RATE: Final = between(0, 100_000)


_KEYS_URL: Final = like(
    r"https://[^\s/@]+/\S*|http://(127\.0\.0\.1|localhost)(:\d+)?/\S*", "an https:// URL"
)


def _are_networks(text: str) -> bool:
    try:
        networks(text)
    except ValueError:
        return False
    return True


def _is_origin(text: str) -> bool:
    return (
        re.fullmatch(r"https?://(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:\d{1,5})?", text)
        is not None
    )


def _runtime_dir(known: Mapping[str, ValueOrigin]) -> Path:
    state = known["state.dir"]
    # What systemd names is the package's, wherever it is.
    given = state.source == "environment STATE_DIRECTORY"
    return paths.RUNTIME_DIR if given else paths.runtime_dir(state.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """Where things lie on the disk."""

    dir: Path = setting(
        paths.STATE_DIR,
        "Everything that has to survive: the store, the sessions, the lease. Mode 0700.",
        env=("STATE_DIRECTORY",),
    )
    sessions: Path = setting(
        "{state.dir}/sessions",
        "One directory per account: its WhatsApp session and its durable inbox; `sessions` in state.dir by default.",
        env=("SESSIONS_PATH",),
    )
    runtime_dir: Path = setting(
        Derived(paths.RUNTIME_DIR, _runtime_dir),
        f"What need not survive a reboot: the control socket. By default {paths.RUNTIME_DIR}; state.dir itself where"
        f" that was set, by you and not by systemd, to another directory than {paths.STATE_DIR}.",
        env=("RUNTIME_DIRECTORY",),
    )
    min_free_mb: int = setting(
        64,
        "Below so much free space on the disk, in MB, nothing new is taken on and health says so.",
        check=between(0, 1_000_000),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """Who this daemon is among others."""

    id: str = setting(
        "host_{hostname}",
        "The name under which this machine holds the lease; different on every machine, the same after a restart.",
        env=("INSTANCE_ID",),
        check=like(r"[A-Za-z0-9._:@-]{1,128}", "1 to 128 of A-Z a-z 0-9 . _ : @ -"),
    )
    commit: str = setting(
        "",
        "The commit that was deployed, for /health; empty where nobody says.",
        env=("DEPLOY_COMMIT_SHA", "GIT_COMMIT_SHA"),
        check=like(r"[A-Za-z0-9._-]{0,64}", "at most 64 of A-Z a-z 0-9 . _ -"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The Unix socket that wadctl speaks to."""

    socket: Path = setting(
        f"{{state.runtime_dir}}/{paths.SOCKET}",
        f"The control socket; `{paths.SOCKET}` in state.runtime_dir by default.",
        env=("WAD_SOCKET",),
        check=ValueCheck(
            "at most 107 bytes long (a limit of Unix sockets)",
            lambda value: len(os.fsencode(value)) <= 107,
        ),
    )
    group: str = setting(
        "wad",
        "Members of this group may use wadctl.",
        check=like(r"[a-z_][a-z0-9_.-]{0,31}\$?", "the name of a group"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Health probes, and the apps that read over HTTP."""

    enabled: bool = setting(True, "Whether to serve HTTP at all.")
    address: str = setting(
        "127.0.0.1",
        "The address to listen on; `0.0.0.0` or `::` for all.",
        check=like(r"[0-9A-Za-z.:%_-]{1,255}", "an IP address or a host name"),
    )
    port: int = setting(
        8080,
        "The TCP port; 0 lets the system choose one.",
        env=("PORT",),
        check=between(0, 65535),
    )
    admin_token: str = setting(
        "",
        "A token that allows everything over HTTP, for who cannot make one of http.tokens yet; empty for none. Under 20"
        " characters it can be guessed: a warning, and an error for a new installation.",
        env=("ADMIN_TOKEN",),
        credential="admin-token",
        secret=True,
        check=ValueCheck(
            "ASCII without blanks", lambda value: value.isascii() and not re.search(r"\s", value)
        ),
    )
    tokens: str = setting(
        "",
        "Who may ask over HTTP, as `wadctl token create` prints it: NAME:ROLE:SHA256, several apart by blanks or line"
        " ends. ROLE is viewer (look), employee (send and steer) or admin (also what cannot be undone).",
        credential="http-tokens",
        secret=True,
        check=ValueCheck("a list of NAME:ROLE:SHA256, no name twice", token.is_list),
    )
    firebase_project: str = setting(
        "",
        "The Firebase project whose users may ask over HTTP with their id token; empty for none.",
        check=like(r"|[a-z0-9:.-]{4,100}", "empty, or the id of a Firebase project"),
    )
    firebase_keys: str = setting(
        "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com",
        "Where the certificates of id tokens are.",
        check=_KEYS_URL,
    )
    app_check_project: str = setting(
        "",
        "The number of the Firebase project; where it is given, users need an App Check token too.",
        check=like(r"[0-9]{0,20}", "empty, or the number of a Firebase project"),
    )
    app_check_keys: str = setting(
        "https://firebaseappcheck.googleapis.com/v1/jwks",
        "Where the keys of App Check are.",
        check=_KEYS_URL,
    )
    admins: str = setting(
        "",
        "The users who may do everything: uids or verified e-mail addresses, with commas (uid:X for a uid with @).",
    )
    employees: str = setting(
        "",
        "The users who may look and send: uids or verified e-mail addresses, with commas (uid:X for a uid with @).",
    )
    user_role: str = setting(
        "none",
        "What any other signed-in user may do: nothing, or look (viewer).",
        check=one_of("none", "viewer"),
    )
    max_role: str = setting(
        "admin",
        "The most that anybody may do over HTTP, whatever their token allows: look (viewer), send and steer (employee),"
        " or also what cannot be undone (admin).",
        check=one_of("viewer", "employee", "admin"),
    )
    headerless_networks: str = setting(
        "",
        "Networks (as 10.1.0.0/16, with commas) from which the list of accounts and a new QR code may be asked for"
        " without a token, as two of the old Functions proxies do; empty for none.",
        check=ValueCheck("networks like 10.1.0.0/16 or fd00::/8, with commas", _are_networks),
    )
    headerless_qr: bool = setting(
        False, "Whether they get the QR code, too; without it they see states only."
    )
    cors_origins: str = setting(
        "",
        "The web origins whose pages may ask, with commas; `https://*.example.org` for all names below one.",
        check=ValueCheck(
            "origins like https://app.example.org or http://localhost:5173, with commas",
            lambda value: all(map(_is_origin, filter(None, re.split(r"[\s,]+", value)))),
        ),
    )
    max_accounts: int = setting(
        30, "So many accounts can be added over HTTP; wadctl adds more.", check=between(0, 10_000)
    )
    rate_send: int = setting(
        30, "So many messages a minute may one caller send; 0 for any number.", check=_RATE
    )
    rate_accounts: int = setting(
        10,
        "So many changes of accounts a minute may one caller make; 0 for any number.",
        check=_RATE,
    )
    rate_qr: int = setting(
        30, "So many QR codes a minute may one caller ask for; 0 for any number.", check=_RATE
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where messages, threads and the outbox are kept."""

    kind: str = setting(
        "sqlite",
        "The kind of store.",
        check=one_of("sqlite", "firestore"),
    )
    firestore_credentials: str = setting(
        "",
        "The service account for Firestore: its JSON, or the path of the file that has it. Empty: the file that"
        " GOOGLE_APPLICATION_CREDENTIALS names, or what the machine's metadata server gives.",
        env=("FIREBASE_SERVICE_ACCOUNT_JSON",),
        credential="firebase-service-account",
        secret=True,
    )
    firestore_project: str = setting(
        "",
        "The project of the Firestore database; empty for the one of the credentials.",
        env=("GOOGLE_CLOUD_PROJECT",),
        check=like(r"[a-z0-9.:-]{0,100}", "the id of a Google Cloud project"),
    )
    firestore_database: str = setting(
        "(default)",
        "The name of the Firestore database.",
        check=like(r"\(default\)|[a-z0-9-]{1,63}", "(default), or the name of a database"),
    )
    firestore_backlog: int = setting(
        1_000_000,
        "At most so many documents wait on this machine while Firestore cannot be reached (a message is one, about 2 KB"
        " on the disk). From half of it on there is a warning; beyond it workers stop, and messages wait at WhatsApp.",
        check=between(1000, 1_000_000_000),
    )
    firestore_emulator: str = setting(
        "",
        "HOST:PORT of a Firestore emulator, which asks for no credentials; for tests.",
        env=("FIRESTORE_EMULATOR_HOST",),
        check=like(r"|[A-Za-z0-9_.:\[\]-]+:\d+", "empty, or HOST:PORT"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The connection to WhatsApp."""

    kind: str = setting(
        "neonize",
        "What speaks to WhatsApp; the simulator speaks to nobody.",
        check=one_of("neonize", "simulator"),
    )
    proxy: str = setting(
        "",
        "The proxy to reach WhatsApp through, as a URL; empty for none.",
        has_password=True,
        check=ValueCheck(
            "empty, or a URL that begins with http://, https:// or socks5:// and names a host",
            lambda value: (
                not value
                or re.fullmatch(r"(https?|socks5)://([^\s/@]+@)?[^\s/@:]\S*", value) is not None
            ),
        ),
    )
    device_name: str = setting(
        "wad",
        "What the phone shows under Linked devices; used when an account is paired.",
        check=ValueCheck("1 to 50 characters", lambda value: 1 <= len(value) <= 50),
    )
    pairing_window: float = setting(
        600, "For so many seconds new QR codes are shown after pairing began.", check=SECONDS
    )
    probe_every: float = setting(
        10, "Seconds between two probes of an account's worker.", check=SECONDS
    )
    probe_timeout: float = setting(
        20,
        "A worker that does not answer a probe for so many seconds is replaced.",
        check=SECONDS,
    )
    connect_timeout: float = setting(
        120,
        "A worker that could not connect, or connect again, by itself for so many seconds is replaced.",
        check=SECONDS,
    )
    backfill_timeout: float = setting(
        60,
        "A phone that is asked for older messages of a conversation gets so many seconds to answer.",
        check=SECONDS,
    )
    backfill_pause: float = setting(
        2, "Seconds between two conversations for which a phone is asked.", check=SECONDS
    )
    stop_timeout: float = setting(
        6, "Seconds that a worker gets to end by itself, before it is killed.", check=SECONDS
    )
    worker_memory_mb: int = setting(
        1024,
        "The most memory in MB that the worker of one account may take, so the rest is not starved; 0 for no limit."
        " Under systemd only.",
        check=between(0, 1_000_000),
    )
    retry_base: float = setting(
        1,
        "Seconds before the first attempt to reconnect; doubled with every failure.",
        check=SECONDS,
    )
    retry_cap: float = setting(
        300, "The longest wait between two attempts to reconnect, in seconds.", check=SECONDS
    )


_LEASE_OF: Final = {"sqlite": "file", "firestore": "firestore"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Only the holder of the lease acts; the same values on every machine."""

    kind: str = setting(
        Derived("file", lambda known: _LEASE_OF[known["store.kind"].value]),
        "Where the lease's record lies: a file, for one machine, or Firestore, for several. By default where the store"
        " lies.",
        check=one_of("file", "firestore"),
    )
    document: str = setting(
        "wa_metrics/longrun/locks/wa_connection",
        "The document of the lease in Firestore; what belongs to it lies below.",
        check=like(r"[^/\s]+/[^/\s]+(/[^/\s]+/[^/\s]+)*", "the path of a document"),
    )
    ttl: float = setting(
        15,
        "Seconds after its last renewal at which another machine may take the lease.",
        check=SECONDS,
    )
    renew_every: float = setting(5, "Seconds between two renewals.", check=SECONDS)
    margin: float = setting(
        3,
        "So many seconds before the lease ends its workers are stopped.",
        check=SECONDS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundSettings:
    """The way of what was received, from the inbox of an account to the store."""

    batch: int = setting(
        500, "At most so many events are written to the store at once.", check=between(1, 10_000)
    )
    retention_days: int = setting(
        14,
        "For so many days the inbox keeps what the store already has.",
        check=between(1, 3650),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the log says."""

    level: str = setting(
        "info",
        "The least important lines that are logged.",
        reload=True,
        check=one_of("debug", "info", "warning", "error"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of the daemon.  Times are in seconds."""

    state: StateSettings
    instance: InstanceSettings
    control: ControlSettings
    http: HttpSettings
    store: StoreSettings
    engine: EngineSettings
    lease: LeaseSettings
    inbound: InboundSettings
    log: LogSettings


RELATIONS: Final = (
    Relation(
        "lease.kind",
        ("store.kind",),
        "firestore where store.kind is firestore: what several machines share, one of them must hold",
        lambda value: not (value["store.kind"] == "firestore" and value["lease.kind"] == "file"),
    ),
    Relation(
        "lease.ttl",
        ("lease.renew_every", "lease.margin"),
        "at least 2 x lease.renew_every + lease.margin, so that one lost renewal does no harm",
        lambda value: value["lease.renew_every"] * 2 + value["lease.margin"] <= value["lease.ttl"],
    ),
    Relation(
        "engine.retry_cap",
        ("engine.retry_base",),
        "at least engine.retry_base",
        lambda value: value["engine.retry_base"] <= value["engine.retry_cap"],
    ),
)

SECTIONS: Final[Mapping[str, type]] = get_type_hints(Config)
SETTINGS: Final[Mapping[str, Setting]] = {row.key: row for row in rows(SECTIONS)}
