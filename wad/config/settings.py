"""All settings of the daemon, with their descriptions, defaults and rules."""

# ruff: noqa: RUF009, `setting` is a `dataclasses.field`
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_type_hints

from wad.config.declaration import (
    SECONDS,
    Derived,
    KnownValue,
    Relation,
    Setting,
    ValueCheck,
    between,
    matching,
    one_of,
    rows,
    setting,
)
from wad.core import paths, token
from wad.core.networks import networks

_RATE: Final = between(0, 100_000)


_KEYS_URL: Final = matching(
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


def _runtime_dir(known: Mapping[str, KnownValue]) -> Path:
    state = known["state.dir"]
    # A directory that systemd names belongs to the package, wherever it is.
    given = state.source == "environment STATE_DIRECTORY"
    return paths.RUNTIME_DIR if given else paths.runtime_dir(state.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """Directories on the disk."""

    dir: Path = setting(
        paths.STATE_DIR,
        "The directory of all persistent data: the store, the sessions, the lease. Mode 0700.",
        env=("STATE_DIRECTORY",),
    )
    sessions: Path = setting(
        "{state.dir}/sessions",
        "The directory with one directory per account, for its WhatsApp session and its spool; `sessions` in state.dir"
        " by default.",
        env=("SESSIONS_PATH",),
    )
    runtime_dir: Path = setting(
        Derived(paths.RUNTIME_DIR, _runtime_dir),
        f"The directory of data that need not survive a reboot: the control socket. By default {paths.RUNTIME_DIR}, but"
        f" state.dir if you (not systemd) have set that to another directory than {paths.STATE_DIR}.",
        env=("RUNTIME_DIRECTORY",),
    )
    min_free_mb: int = setting(
        64,
        "The free disk space in MB below which accounts stop receiving, and health reports a problem.",
        check=between(0, 1_000_000),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """The identity of this instance."""

    id: str = setting(
        "host_{hostname}",
        "The name of this machine in the lease; it must differ between machines and stay the same over restarts.",
        env=("INSTANCE_ID",),
        check=matching(r"[A-Za-z0-9._:@-]{1,128}", "1 to 128 of A-Z a-z 0-9 . _ : @ -"),
    )
    commit: str = setting(
        "",
        "The deployed commit, shown in /health; empty if unknown.",
        env=("DEPLOY_COMMIT_SHA", "GIT_COMMIT_SHA"),
        check=matching(r"[A-Za-z0-9._-]{0,64}", "at most 64 of A-Z a-z 0-9 . _ -"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The Unix socket for wadctl."""

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
        "The group whose members may use wadctl.",
        check=matching(r"[a-z_][a-z0-9_.-]{0,31}\$?", "the name of a group"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The HTTP interface: health probes, metrics and the API for apps."""

    enabled: bool = setting(True, "Whether HTTP is served.")
    address: str = setting(
        "127.0.0.1",
        "The address to listen on; `0.0.0.0` or `::` for all addresses.",
        check=matching(r"[0-9A-Za-z.:%_-]{1,255}", "an IP address or a host name"),
    )
    port: int = setting(
        8080,
        "The TCP port; 0 for any free port.",
        env=("PORT",),
        check=between(0, 65535),
    )
    admin_token: str = setting(
        "",
        "A token with the role admin, for a client that cannot use http.tokens yet; empty for none. A token of fewer"
        " than 20 characters can be guessed: it is a warning, and an error in a new installation.",
        env=("ADMIN_TOKEN",),
        credential="admin-token",
        secret=True,
        check=ValueCheck(
            "ASCII without blanks", lambda value: value.isascii() and not re.search(r"\s", value)
        ),
    )
    tokens: str = setting(
        "",
        "The tokens for HTTP, as `wadctl token create` prints them: NAME:ROLE:SHA256, separated by blanks or line ends."
        " ROLE is viewer (read), employee (also send and control) or admin (also irreversible operations).",
        credential="http-tokens",
        secret=True,
        check=ValueCheck("a list of NAME:ROLE:SHA256 without duplicates", token.is_list),
    )
    firebase_project: str = setting(
        "",
        "The Firebase project whose users may use HTTP with their ID token; empty for none.",
        check=matching(r"|[a-z0-9:.-]{4,100}", "empty, or the id of a Firebase project"),
    )
    firebase_keys: str = setting(
        "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com",
        "The URL of the certificates that sign ID tokens.",
        check=_KEYS_URL,
    )
    app_check_project: str = setting(
        "",
        "The number of the Firebase project; if it is set, users also need an App Check token.",
        check=matching(r"[0-9]{0,20}", "empty, or the number of a Firebase project"),
    )
    app_check_keys: str = setting(
        "https://firebaseappcheck.googleapis.com/v1/jwks",
        "The URL of the keys of App Check.",
        check=_KEYS_URL,
    )
    admins: str = setting(
        "",
        "The users with the role admin: uids or verified e-mail addresses, with commas (uid:X for a uid with @).",
    )
    employees: str = setting(
        "",
        "The users with the role employee: uids or verified e-mail addresses, with commas (uid:X for a uid with @).",
    )
    user_role: str = setting(
        "none",
        "The role of any other signed-in user: none, or viewer.",
        check=one_of("none", "viewer"),
    )
    max_role: str = setting(
        "admin",
        "The highest role of any caller over HTTP, whatever their token allows: viewer (read), employee (also send and"
        " control) or admin (also irreversible operations).",
        check=one_of("viewer", "employee", "admin"),
    )
    headerless_networks: str = setting(
        "",
        "The networks (like 10.1.0.0/16, separated by commas) that may request the list of accounts and a new QR code"
        " without a token, as two of the old Functions proxies do; empty for none.",
        check=ValueCheck(
            "networks like 10.1.0.0/16 or fd00::/8, separated by commas", _are_networks
        ),
    )
    headerless_qr: bool = setting(
        False, "Whether http.headerless_networks may get QR codes; if not, they see states only."
    )
    cors_origins: str = setting(
        "",
        "The allowed web origins (CORS), separated by commas; `https://*.example.org` for all subdomains.",
        check=ValueCheck(
            "origins like https://app.example.org or http://localhost:5173, separated by commas",
            lambda value: all(map(_is_origin, filter(None, re.split(r"[\s,]+", value)))),
        ),
    )
    max_accounts: int = setting(
        30,
        "The number of accounts above which HTTP adds no more; wadctl does.",
        check=between(0, 10_000),
    )
    account_namespace: str = setting(
        "prod",
        "A part of the ids of accounts that apps add by their number, as in the replaced backend: with the same"
        " namespace an account finds its old threads.",
        env=("ACCOUNT_NAMESPACE",),
        check=matching(r"[a-z0-9](-?[a-z0-9]){0,15}", "1 to 16 of a-z 0-9 -"),
    )
    country_code: str = setting(
        "",
        "The country code of the numbers that apps add in national spelling: with 40, 0712 345 678 is +40712345678."
        " Empty: such numbers are refused.",
        check=matching(r"|[1-9][0-9]{0,2}", "empty, or 1 to 3 digits"),
    )
    rate_send: int = setting(
        30, "The messages that one caller may send per minute; 0 for no limit.", check=_RATE
    )
    rate_accounts: int = setting(
        10,
        "The changes of accounts that one caller may make per minute; 0 for no limit.",
        check=_RATE,
    )
    rate_qr: int = setting(
        30, "The QR codes that one caller may request per minute; 0 for no limit.", check=_RATE
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The store of messages, threads and the outbox."""

    kind: str = setting(
        "sqlite",
        "The kind of store.",
        check=one_of("sqlite", "firestore"),
    )
    firestore_credentials: str = setting(
        "",
        "The service account for Firestore: its JSON, or the path of its JSON file. Empty: the file that"
        " GOOGLE_APPLICATION_CREDENTIALS names, or the credentials of the machine's metadata server.",
        env=("FIREBASE_SERVICE_ACCOUNT_JSON",),
        credential="firebase-service-account",
        secret=True,
    )
    firestore_project: str = setting(
        "",
        "The project of the Firestore database; empty for the project of the credentials.",
        env=("GOOGLE_CLOUD_PROJECT",),
        check=matching(r"[a-z0-9.:-]{0,100}", "the id of a Google Cloud project"),
    )
    firestore_database: str = setting(
        "(default)",
        "The name of the Firestore database.",
        check=matching(r"\(default\)|[a-z0-9-]{1,63}", "(default), or the name of a database"),
    )
    firestore_backlog: int = setting(
        1_000_000,
        "The largest number of documents that wait on this machine while Firestore is unreachable (a message is one,"
        " about 2 KB on the disk). Health warns from half of it on; above it workers stop, and messages wait at"
        " WhatsApp.",
        check=between(1000, 1_000_000_000),
    )
    firestore_emulator: str = setting(
        "",
        "HOST:PORT of a Firestore emulator, which needs no credentials; for tests.",
        env=("FIRESTORE_EMULATOR_HOST",),
        check=matching(r"|[A-Za-z0-9_.:\[\]-]+:\d+", "empty, or HOST:PORT"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The connection to WhatsApp."""

    kind: str = setting(
        "neonize",
        "The library that connects to WhatsApp; the simulator connects to nothing.",
        check=one_of("neonize", "simulator"),
    )
    proxy: str = setting(
        "",
        "The URL of the proxy for connections to WhatsApp; empty for none.",
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
        "The name that the phone shows under Linked devices; it is set when an account is paired.",
        check=ValueCheck("1 to 50 characters", lambda value: 1 <= len(value) <= 50),
    )
    pairing_window: float = setting(
        600, "The seconds for which new QR codes are shown after pairing has begun.", check=SECONDS
    )
    probe_every: float = setting(
        10, "The seconds between two probes of an account's worker.", check=SECONDS
    )
    probe_timeout: float = setting(
        20,
        "The seconds without an answer to a probe after which a worker is replaced.",
        check=SECONDS,
    )
    connect_timeout: float = setting(
        120,
        "The seconds without a connection after which a worker is replaced.",
        check=SECONDS,
    )
    backfill_timeout: float = setting(
        60,
        "The seconds in which a phone must answer a request for older messages of a conversation.",
        check=SECONDS,
    )
    backfill_pause: float = setting(2, "The seconds between two such requests.", check=SECONDS)
    stop_timeout: float = setting(
        6, "The seconds in which a worker must stop by itself before it is killed.", check=SECONDS
    )
    worker_memory_mb: int = setting(
        1024,
        "The memory limit in MB of the worker of one account, which protects the other accounts; 0 for no limit. It"
        " applies under systemd only.",
        check=between(0, 1_000_000),
    )
    retry_base: float = setting(
        1,
        "The seconds before the first attempt to reconnect; doubled with every failure.",
        check=SECONDS,
    )
    retry_cap: float = setting(
        300, "The longest wait between two attempts to reconnect, in seconds.", check=SECONDS
    )


_LEASE_OF: Final = {"sqlite": "file", "firestore": "firestore"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """The lease, whose holder alone acts; the values must be the same on every machine."""

    kind: str = setting(
        Derived("file", lambda known: _LEASE_OF[known["store.kind"].value]),
        "Where the lease record is stored: in a file, for one machine, or in Firestore, for several. By default it"
        " follows store.kind.",
        check=one_of("file", "firestore"),
    )
    document: str = setting(
        "wa_metrics/longrun/locks/wa_connection",
        "The document of the lease in Firestore; its further documents are stored below it.",
        check=matching(r"[^/\s]+/[^/\s]+(/[^/\s]+/[^/\s]+)*", "the path of a document"),
    )
    ttl: float = setting(
        15,
        "The seconds after the last renewal at which another machine may acquire the lease.",
        check=SECONDS,
    )
    renew_every: float = setting(5, "The seconds between two renewals.", check=SECONDS)
    margin: float = setting(
        3,
        "The seconds before the end of the lease at which the workers are stopped.",
        check=SECONDS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundSettings:
    """The inbound pipeline, from the spool of an account to the store."""

    batch: int = setting(
        500, "The largest number of events in one write to the store.", check=between(1, 10_000)
    )
    retention_days: int = setting(
        14,
        "The days for which the spool keeps events that are in the store already.",
        check=between(1, 3650),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The log."""

    level: str = setting(
        "info",
        "The lowest level that is logged.",
        reload=True,
        check=one_of("debug", "info", "warning", "error"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of the daemon, by section.  Times are in seconds."""

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
        "firestore if store.kind is firestore, since several machines share that store",
        lambda value: not (value["store.kind"] == "firestore" and value["lease.kind"] == "file"),
    ),
    Relation(
        "lease.ttl",
        ("lease.renew_every", "lease.margin"),
        "at least 2 x lease.renew_every + lease.margin, so that the lease survives one lost renewal",
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
