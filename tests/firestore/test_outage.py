"""Firestore unreachable, slow or failing: what waits, what is reported, and how it recovers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError

from tests.contracts.world import ACC, ANN_THREAD, EPOCH, arrival, one_thread, wa_id
from tests.firestore.proxy import Proxy, Weather, a_proxy
from tests.firestore.stores import Console, a_store
from tests.support.waiting import until
from wad.core.errors import BadConfig, Unavailable, WadError
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore, pause_after

MESSAGES = f"threads/{ANN_THREAD}/messages"


@pytest.fixture
def proxy(access: FirestoreAccess) -> Iterator[Proxy]:
    """The proxy between the store and the emulator."""
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        yield proxy


def failed(cause: type[Exception]) -> WadError:
    """An error of ours caused by one of the library's."""
    error = Unavailable("x")
    error.__cause__ = cause("x")
    return error


@pytest.mark.parametrize(
    ("error", "first", "last"),
    [
        (failed(exceptions.ServiceUnavailable), 0.5, 30),
        (failed(exceptions.Aborted), 0.1, 1),
        (failed(exceptions.ResourceExhausted), 5, 120),
        (failed(exceptions.PermissionDenied), 10, 60),
        (failed(RefreshError), 10, 60),
        (BadConfig("x"), 10, 60),
        (ValueError("x"), 0.5, 30),
    ],
)
def test_each_kind_of_error_has_its_pause(error: Exception, first: float, last: float) -> None:
    """Contention ends soon, a quota does not, and a person takes a while; the pause grows up to a limit."""
    pauses = [pause_after(error, failures) for failures in range(10)]
    assert (pauses[0], pauses[-1]) == (first, last)
    assert pauses == sorted(pauses)


async def test_documents_wait_and_are_pushed_in_order(
    access: FirestoreAccess, tmp_path: Path, proxy: Proxy
) -> None:
    """Under load, beyond the quota, through a restart: everything once, and the thread is right."""
    through = FirestoreAccess(project=access.project, emulator=proxy.address)
    count = 1500
    proxy.weather = Weather.REFUSED
    async with a_store(through, tmp_path, quota=1000) as store:
        for number in range(count):
            await store.record(ACC, arrival(number))
        await until(lambda: store.sync_status.waiting >= 1000)
        sync = store.sync_status
        assert sync.refusal
        assert "Firestore" in sync.error
        assert sync.oldest_ms is not None
        assert (await one_thread(store)).messages == count
    proxy.weather = Weather.CLEAR
    async with a_store(through, tmp_path, quota=1000) as store, store.lead(EPOCH, print):
        await until(lambda: store._pusher.epoch == EPOCH)
        await store.wait_pushed()
        assert (store.sync_status.waiting, store.sync_status.refusal, store.sync_status.error) == (
            0,
            "",
            "",
        )
    console = Console(access)
    found = (await console.all(MESSAGES)).values()
    assert Counter(m["waMessageId"] for m in found) == Counter(wa_id(n) for n in range(count))
    in_order = sorted(found, key=lambda message: (message["tsSort"], message["arrivedUs"]))
    assert [m["body"] for m in in_order] == [f"text {number}" for number in range(count)]
    assert (await console.there(f"threads/{ANN_THREAD}"))["messageCount"] == count
    console.close()


async def test_a_lost_answer_duplicates_nothing(
    access: FirestoreAccess, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit arrives, its answer does not: it is pushed again, which changes nothing."""
    monkeypatch.setattr("wad.store.firestore.sync.push.TIMEOUT", 0.5)
    through = FirestoreAccess(project=access.project, emulator=proxy.address)
    console = Console(access)
    async with a_store(through, tmp_path) as store:
        await store.record(ACC, arrival(3))  # its thread's documents are known from then on
        await store.wait_pushed()
        proxy.weather = Weather.DEAF
        await store.record(ACC, [*arrival(1), *arrival(2)])
        await until(lambda: bool(store.sync_status.error))
        proxy.weather = Weather.CLEAR
        await store.wait_pushed()
        assert store.sync_status.error == ""
    assert len(await console.all(MESSAGES)) == 3
    console.close()


async def test_a_missing_index_is_named() -> None:
    """Google's answer has the link to create it; the emulator never returns it."""
    where = "https://console.firebase.google.com/project/x/firestore/indexes?create=1"

    def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"The query requires an index. You can create it here: {where}",
        )
        raise AssertionError

    server = grpc.server(futures.ThreadPoolExecutor(1))
    methods = {"RunQuery": grpc.unary_stream_rpc_method_handler(refuse)}
    service = "google.firestore.v1.Firestore"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    firestore = Firestore(
        FirestoreAccess(project="demo-x", emulator=f"127.0.0.1:{port}"), "test", 1
    )

    def work(client: Client) -> None:
        client.collection("c").get(retry=None, timeout=10)

    with pytest.raises(Unavailable, match="an index is missing") as caught:
        await firestore.call(work)
    assert where in str(caught.value)
    firestore.close()
    server.stop(None)
