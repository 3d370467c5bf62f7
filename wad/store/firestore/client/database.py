"""Opening a database, calling it, watching documents; what a failure of Google's library means.

The synchronous client is used, since only that one can listen; its calls run in a few threads, each with a deadline and
without the library's own retries, so that whoever asks decides what a failure means.  A channel that did not answer in
time is replaced: behind it may be a connection that nobody serves any more, and gRPC would find that out only after its
keepalive (50 s).
"""

from __future__ import annotations

import wad.store.firestore.client.http  # noqa: F401, before all that loads the whole of it

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
from wad.store.firestore.client.listen import ListenStream, Tell
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
_PARTING: Final = 1.0  # seconds
_RECONNECT_MS: Final = 2_000  # gRPC's own waits grow to two minutes, in which every call fails
_KEEPALIVE_MS: Final = 30_000  # what the library itself uses; Google's servers refuse much less
_SCOPES: Final = ("https://www.googleapis.com/auth/datastore",)


class _OwnChannel(_Client):
    """The library's client over a channel of our own making, which is not shared and can be replaced."""

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
        """Hang up; calls that run end at once."""
        self._channel.close()


class Firestore:
    """One database, spoken to from `threads` threads.  Connects when first asked."""

    def __init__(self, access: FirestoreAccess, name: str, threads: int) -> None:
        self._access = access
        self._threads = DaemonThreads(name, threads)
        self._credentials: tuple[Credentials, str] | None = None
        self._client: _OwnChannel | None = None

    async def call(self, work: Callable[[Client], T]) -> T:
        """What `work` returns; it gives every call of its own a timeout and `retry=None`.

        Raises Conflict (a precondition failed, or the document exists), NotFound (an update of what is not there),
        BadInput (a document that Firestore does not take), Unavailable (no answer, denied, too much at once).
        """
        return await self._threads.run(lambda: self._call(work))

    def now(self, work: Callable[[Client], T]) -> T:
        """The same on the caller's own thread, for a program that has no loop."""
        return self._call(work)

    def later(self, work: Callable[[], None]) -> None:
        """Do it in a thread, without anybody waiting for it."""
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
        self, path: str, tell: Callable[[Snapshot], None], lost: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `tell` with each state of a document, and `lost` when that ends by itself; what ends it is returned.

        Both are called on a thread of its own.  It may also end silently: look from time to time.  To be called in
        `call`.
        """
        client = self._open()

        def tell_one(found: list[Snapshot]) -> None:
            tell(found[-1] if found else Snapshot(path))

        names = Target.DocumentsTarget(documents=[internals.document_name(client, path)])
        return ListenStream(client, Target(documents=names), tell_one, lost).end

    def watch_query(
        self, query: BaseQuery, tell: Tell, lost: Callable[[], None]
    ) -> Callable[[], None]:
        """The same for what a query finds: `tell` first gets all of it, then what is new, other or gone."""
        parent, structured = internals.on_the_wire(query)
        wanted = Target.QueryTarget(parent=parent, structured_query=structured)
        return ListenStream(self._open(), Target(query=wanted), tell, lost).end

    def close(self) -> None:
        """Hang up, within `_PARTING` seconds.  Idempotent."""
        self._threads.close()
        if self._client is not None:
            # gRPC waits here for threads of its own, with no limit.
            closing = threading.Thread(target=self._client.close, name="closing", daemon=True)
            closing.start()
            closing.join(_PARTING)


@contextmanager
def translated() -> Iterator[None]:
    """The library's errors as ours."""
    try:
        yield
    except google_errors.GoogleAPICallError as error:
        raise _ours(error) from error
    except auth_errors.GoogleAuthError as error:
        raise Unavailable(f"Firestore: no access token: {error}") from error
    except ValueError as error:
        # gRPC's answer to a call on a channel that another thread has closed.
        if "closed channel" not in str(error):
            raise
        raise Unavailable("Firestore: the connection was replaced") from error


def _ours(error: google_errors.GoogleAPICallError) -> WadError:
    said = (error.message or "").partition("\n")[0]
    match error:
        case google_errors.FailedPrecondition() if "index" in said:
            return Unavailable(f"Firestore: an index is missing: {said}")
        case google_errors.AlreadyExists() | google_errors.FailedPrecondition():
            return Conflict(said)
        case google_errors.NotFound():
            return NotFound(said)
        case google_errors.PermissionDenied() | google_errors.Unauthenticated():
            return Unavailable(f"Firestore denies access: {said}")
        case google_errors.InvalidArgument():
            return BadInput(said)
        case google_errors.ResourceExhausted() if "maximum size" in said or "larger than" in said:
            return BadInput(said)  # not a quota: this request is too large
        case google_errors.DeadlineExceeded():
            return Unavailable("Firestore does not answer")
        case google_errors.ServiceUnavailable():
            return Unavailable(f"Firestore is unreachable: {said}")
        case _:
            return Unavailable(f"Firestore: {type(error).__name__}: {said}")


_OF_ONE_REQUEST: Final = (
    google_errors.FailedPrecondition,
    google_errors.InvalidArgument,
    google_errors.OutOfRange,
)
_FAULTS: Final = (google_errors.InternalServerError, google_errors.Unknown)


def is_about_the_request(error: WadError) -> bool:
    """Whether it says nothing about other requests: a document that is not taken, a query whose index is missing."""
    return isinstance(error, BadInput) or isinstance(error.__cause__, _OF_ONE_REQUEST)


def is_fault_of_firestore(error: WadError) -> bool:
    """Whether Firestore failed inside; if the same request leads to it again and again, it is about the request."""
    return isinstance(error.__cause__, _FAULTS)


_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the next try
_CONTENDED: Final = (0.1, 0.2, 0.5, 1.0)  # another wrote the same document
_EXHAUSTED: Final = (
    5.0,
    15.0,
    60.0,
    120.0,
)  # the quota is used up: asking more often makes it worse
_DENIED: Final = (10.0, 60.0)  # a person has to mend it


def pause_after(error: BaseException, failures: int) -> float:
    """Seconds to wait after an error of this kind, which is the one after `failures` others."""
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
    """Whom to speak as, and the project.  Raises BadConfig (malformed), Unavailable (there are none)."""
    if access.emulator:
        return AnonymousCredentials(), access.project or "demo-wad"
    if not access.credentials:
        return _of_environment(access)
    info = service_account_of(access.credentials)
    try:
        found = service_account.Credentials.from_service_account_info(info, scopes=_SCOPES)
    except (ValueError, auth_errors.GoogleAuthError) as error:
        raise BadConfig(f"store.firestore_credentials: no service account: {error}") from error
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
        # The library takes any JSON for an object.
        raise BadConfig("GOOGLE_APPLICATION_CREDENTIALS: no JSON of credentials") from error
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
