"""The database client: calls, listening to documents, and the translation of errors of Google's library.

The synchronous client is used, since only it can listen; its calls run in a few threads, each with a deadline and
without the library's own retries, so that the caller decides how to handle a failure.  A channel that did not answer in
time is replaced: its connection may be dead, and gRPC would detect that only after its keepalive (50 s).
"""

from __future__ import annotations

import wad.store.firestore.client.http  # noqa: F401, before the imports that would load all of it

# isort: split

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import google.auth
import grpc
from google.api_core import exceptions as google_errors
from google.auth import exceptions as auth_errors
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud.firestore_v1.base_query import BaseQuery, FieldFilter
from google.cloud.firestore_v1.batch import WriteBatch
from google.cloud.firestore_v1.client import Client as _Client
from google.cloud.firestore_v1.document import DocumentReference
from google.cloud.firestore_v1.query import Query
from google.cloud.firestore_v1.services.firestore.client import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports.grpc import FirestoreGrpcTransport
from google.cloud.firestore_v1.transforms import DELETE_FIELD, SERVER_TIMESTAMP, Increment
from google.cloud.firestore_v1.types.firestore import Target
from google.oauth2 import service_account
from proto.datetime_helpers import DatetimeWithNanoseconds

from wad.core.errors import BadConfig, BadInput, Conflict, NotFound, Unavailable, WadError
from wad.store.firestore.client import internals
from wad.store.firestore.client.access import FirestoreAccess, service_account_of
from wad.store.firestore.client.decode import Snapshot
from wad.store.firestore.client.listen import ListenStream, OnChanges
from wad.store.firestore.client.threads import DaemonThreads

__all__ = [
    "DELETE_FIELD",
    "SERVER_TIMESTAMP",
    "Batch",
    "DocumentReference",
    "FieldFilter",
    "Increment",
    "Query",
    "Snapshot",
]

T = TypeVar("T")

Client = _Client
Batch = WriteBatch

_HOST: Final = "firestore.googleapis.com"
_CLOSE_TIMEOUT: Final = 1.0  # seconds
_RECONNECT_MS: Final = 2_000  # gRPC's own back-off grows to two minutes, in which every call fails
_KEEPALIVE_MS: Final = 30_000  # what the library itself uses; Google's servers refuse much less
_SCOPES: Final = ("https://www.googleapis.com/auth/datastore",)


class _OwnChannel(_Client):
    """The library's client on a channel of our own, which is not shared and can be replaced."""

    def __init__(self, access: FirestoreAccess, credentials: Credentials, project: str) -> None:
        super().__init__(project=project, credentials=credentials, database=access.database)
        self._emulator_host = access.emulator or None
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        ]
        if access.emulator:
            self._channel = grpc.insecure_channel(access.emulator, options=options)
        else:
            self._channel = FirestoreGrpcTransport.create_channel(
                _HOST, credentials=credentials, options=options
            )
        transport = FirestoreGrpcTransport(host=access.emulator or _HOST, channel=self._channel)
        self._api = FirestoreClient(transport=transport)

    @property
    def _firestore_api(self) -> FirestoreClient:
        return self._api

    def close(self) -> None:
        """Close the channel; running calls end at once."""
        self._channel.close()


class Firestore:
    """A client of one database, with `threads` threads.  Connects on the first call."""

    def __init__(self, access: FirestoreAccess, name: str, threads: int) -> None:
        self._access = access
        self._threads = DaemonThreads(name, threads)
        self._credentials: tuple[Credentials, str] | None = None
        self._client: _OwnChannel | None = None

    async def call(self, work: Callable[[Client], T]) -> T:
        """Run `work` in a thread and return its result; `work` makes each call with a timeout and `retry=None`.

        Raises Conflict (a precondition failed, or the document exists), NotFound (an update of a missing document),
        BadInput (a document that Firestore refuses), Unavailable (no answer, access denied, quota used up).
        """
        return await self._threads.run(lambda: self._call(work))

    def now(self, work: Callable[[Client], T]) -> T:
        """Run `work` on the caller's own thread, for a program without an event loop."""
        return self._call(work)

    def later(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread without waiting for it."""
        self._threads.later(work)

    def _call(self, work: Callable[[Client], T]) -> T:
        client = self._open()
        try:
            with translated():
                return work(client)
        except Unavailable as error:
            if isinstance(error.__cause__, google_errors.DeadlineExceeded):
                self._renew(client)
            raise

    def _open(self) -> _OwnChannel:
        if self._client is None:
            if self._credentials is None:
                self._credentials = credentials_of(self._access)
            credentials, project = self._credentials
            self._client = _OwnChannel(self._access, credentials, project)
        return self._client

    def _renew(self, client: _OwnChannel) -> None:
        # Several threads may have waited on the same channel: the first replaces it.
        if self._client is client:
            self._client = None
        client.close()

    def watch(
        self, path: str, on_changes: Callable[[Snapshot], None], on_end: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `on_changes` with each state of a document, and `on_end` when the stream ends; return a function that
        closes it.

        Both are called on a thread of the stream.  It may also end silently, so read the document periodically, too.
        Call this inside `call`.
        """
        client = self._open()

        def changed(found: list[Snapshot]) -> None:
            on_changes(found[-1] if found else Snapshot(path))

        names = Target.DocumentsTarget(documents=[internals.document_name(client, path)])
        return ListenStream(client, Target(documents=names), changed, on_end).end

    def watch_query(
        self, query: BaseQuery, on_changes: OnChanges, on_end: Callable[[], None]
    ) -> Callable[[], None]:
        """Listen to the documents of a query: `on_changes` gets all of them first, then those that are new, changed or
        deleted."""
        parent, structured = internals.on_the_wire(query)
        wanted = Target.QueryTarget(parent=parent, structured_query=structured)
        return ListenStream(self._open(), Target(query=wanted), on_changes, on_end).end

    def close(self) -> None:
        """Close the connection within `_CLOSE_TIMEOUT` seconds.  Idempotent."""
        self._threads.close()
        if self._client is not None:
            # gRPC waits here for its own threads, without a limit.
            closing = threading.Thread(target=self._client.close, name="closing", daemon=True)
            closing.start()
            closing.join(_CLOSE_TIMEOUT)


@contextmanager
def translated() -> Iterator[None]:
    """Translate the library's errors to ours."""
    try:
        yield
    except google_errors.GoogleAPICallError as error:
        raise _ours(error) from error
    except auth_errors.GoogleAuthError as error:
        raise Unavailable(f"Firestore: no access token: {error}") from error
    except ValueError as error:
        # gRPC raises this for a call on a channel that another thread has closed.
        if "closed channel" not in str(error):
            raise
        raise Unavailable("Firestore: the connection was replaced") from error


def _ours(error: google_errors.GoogleAPICallError) -> WadError:
    text = (error.message or "").partition("\n")[0]
    match error:
        case google_errors.FailedPrecondition() if "index" in text:
            return Unavailable(f"Firestore: an index is missing: {text}")
        case google_errors.AlreadyExists() | google_errors.FailedPrecondition():
            return Conflict(text)
        case google_errors.NotFound():
            return NotFound(text)
        case google_errors.PermissionDenied() | google_errors.Unauthenticated():
            return Unavailable(f"Firestore denies access: {text}")
        case google_errors.InvalidArgument():
            return BadInput(text)
        case google_errors.ResourceExhausted() if "maximum size" in text or "larger than" in text:
            return BadInput(text)  # not a quota: this request is too large
        case google_errors.DeadlineExceeded():
            return Unavailable("Firestore does not answer")
        case google_errors.ServiceUnavailable():
            return Unavailable(f"Firestore is unreachable: {text}")
        case _:
            return Unavailable(f"Firestore: {type(error).__name__}: {text}")


_OF_ONE_REQUEST: Final = (
    google_errors.FailedPrecondition,
    google_errors.InvalidArgument,
    google_errors.OutOfRange,
)
_FAULTS: Final = (google_errors.InternalServerError, google_errors.Unknown)


def is_about_the_request(error: WadError) -> bool:
    """Whether the error concerns this request only: a document that is refused, a query whose index is missing."""
    return isinstance(error, BadInput) or isinstance(error.__cause__, _OF_ONE_REQUEST)


def is_fault_of_firestore(error: WadError) -> bool:
    """Whether it is an internal error of Firestore; if one request causes it repeatedly, it is about the request."""
    return isinstance(error.__cause__, _FAULTS)


_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the next try
_CONTENDED: Final = (0.1, 0.2, 0.5, 1.0)  # another client wrote the same document
_EXHAUSTED: Final = (
    5.0,
    15.0,
    60.0,
    120.0,
)  # the quota is used up: more requests make it worse
_DENIED: Final = (10.0, 60.0)  # an operator has to fix it


def pause_after(error: BaseException, failures: int) -> float:
    """Seconds to wait before the next try after this error, which follows `failures` others in a row."""
    pauses: tuple[float, ...] = _PAUSES
    match error.__cause__ or error:
        case google_errors.Aborted() | google_errors.Conflict():
            pauses = _CONTENDED
        case google_errors.ResourceExhausted():
            pauses = _EXHAUSTED
        case google_errors.PermissionDenied() | google_errors.Unauthenticated() | BadConfig():
            pauses = _DENIED
        case auth_errors.GoogleAuthError():
            pauses = _DENIED
    return pauses[min(failures, len(pauses) - 1)]


# --- credentials --------------------------------------------------------------------------------


def credentials_of(access: FirestoreAccess) -> tuple[Credentials, str]:
    """The credentials and the project.  Raises BadConfig (malformed), Unavailable (none found)."""
    if access.emulator:
        return AnonymousCredentials(), access.project or "demo-wad"
    if not access.credentials:
        return _of_environment(access)
    info = service_account_of(access.credentials)
    try:
        found = service_account.Credentials.from_service_account_info(info, scopes=_SCOPES)
    except (ValueError, auth_errors.GoogleAuthError) as error:
        raise BadConfig(f"store.firestore_credentials: not a service account: {error}") from error
    return found, access.project or str(found.project_id)


def _of_environment(access: FirestoreAccess) -> tuple[Credentials, str]:
    try:
        found, project = google.auth.default(scopes=_SCOPES)
    except auth_errors.DefaultCredentialsError as error:
        raise Unavailable(
            f"Firestore: no credentials: {error}",
            hint="set store.firestore_credentials, or the systemd credential firebase-service-account",
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        # The library does not check the JSON's type.
        raise BadConfig("GOOGLE_APPLICATION_CREDENTIALS: not a credentials file") from error
    if not (access.project or project):
        raise BadConfig("store.firestore_project is not set, and the credentials name none")
    return found, access.project or str(project)


# --- versions and times -----------------------------------------------------------------------------


def version_of(moment: DatetimeWithNanoseconds) -> str:
    """A document's update time as text, to the nanosecond."""
    return str(moment.rfc3339())


def moment_of(version: str) -> DatetimeWithNanoseconds:
    """The update time that `version_of` wrote."""
    return DatetimeWithNanoseconds.from_rfc3339(version)
