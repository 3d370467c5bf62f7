"""The lease record in Firestore: compare-and-set, the server's clock, the listener, the fence, the replaced backend."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud import firestore

from tests.firestore.leases import TERMS, a_leader, a_record, take, wanted
from tests.firestore.proxy import Weather, a_proxy
from tests.firestore.reference import Reference
from tests.firestore.stores import LEASE
from tests.support.leaders import Leaderships, running
from tests.support.waiting import until
from wad.core import lease
from wad.core.errors import Conflict, NotFound, Unavailable
from wad.core.lease import Act, Record, Seen
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore
from wad.store.firestore.lease.fence import Fence
from wad.store.firestore.lease.record import FirestoreLease


async def document(access: FirestoreAccess) -> dict[str, Any]:
    """The lease document as it is stored; empty if there is none."""
    firestore = Firestore(access, "test", 1)
    try:
        snapshot = await firestore.call(lambda client: client.document(LEASE).get())
        return snapshot.to_dict() or {}
    finally:
        firestore.close()


async def put(access: FirestoreAccess, fields: dict[str, Any] | None) -> None:
    """Write the document as the replaced backend does (None: delete it)."""
    firestore = Firestore(access, "test", 1)
    try:
        if fields is None:
            await firestore.call(lambda client: client.document(LEASE).delete())
        else:
            await firestore.call(lambda client: client.document(LEASE).set(fields, merge=True))
    finally:
        firestore.close()


def in_ms(seconds: float) -> int:
    """A time by this machine's clock, which is also the emulator's."""
    return round((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp() * 1000)


# --- compare and set ------------------------------------------------------------------------------


async def test_the_first_holder_creates_it(access: FirestoreAccess) -> None:
    """Of two instances that create the document, one is refused."""
    async with a_record(access) as one, a_record(access) as two:
        seen, other = await one.read(), await two.read()
        assert seen == other == Seen(Record(holder="", nonce="", epoch=0, ttl=0), 0.0, None)
        await one.write(wanted("one", 1), None)
        with pytest.raises(Conflict):
            await two.write(wanted("two", 1), None)


async def test_only_the_version_that_was_read_is_replaced(access: FirestoreAccess) -> None:
    """The second writer with the same version is refused, in one round trip."""
    async with a_record(access) as one, a_record(access) as two:
        first = await take(one, "one", 1)
        seen = await two.read()
        assert seen is not None
        assert (seen.record.holder, seen.record.epoch, seen.version) == ("one", 1, first)
        second = await one.write(wanted("one", 1, renewed_ms=7), first)
        with pytest.raises(Conflict):
            await two.write(wanted("two", 2), seen.version)
        assert second != first


async def test_its_age_is_by_the_servers_clock(access: FirestoreAccess) -> None:
    """It grows without writes, whatever a client's clock shows."""
    async with a_record(access) as one, a_record(access) as two:
        await take(one, "one", 1)
        first = await two.read()
        await until_age(two, 0.2)
        second = await two.read()
        assert first is not None
        assert second is not None
        assert first.version == second.version
        assert 0 <= first.age < second.age


async def until_age(record: FirestoreLease, age: float) -> None:
    """Wait until the record has this age."""
    async with asyncio.timeout(30):
        while (seen := await record.read()) is None or seen.age < age:
            await asyncio.sleep(0.02)


async def test_release_keeps_the_epoch(access: FirestoreAccess) -> None:
    """The lease is free, and the next holder's epoch is greater; also if the document was deleted meanwhile."""
    async with a_record(access) as one:
        version = await take(one, "one", 5)
        await one.write(lease.released(wanted("one", 5), 9, "stopped"), version)
        seen = await one.read()
        assert seen is not None
        assert (seen.record.holder, seen.record.previous, seen.record.epoch) == ("", "one", 5)
        await put(access, None)
        seen = await one.read()
        assert seen is not None
        assert (seen.record.holder, seen.record.epoch, seen.version) == ("", 5, None)


async def test_an_epoch_that_began_elsewhere_is_not_begun_again(access: FirestoreAccess) -> None:
    """The record was lost and its reader has no epoch: the fence has it."""
    async with a_record(access) as one, a_record(access) as two:
        await take(one, "one", 5)
        await put(access, None)
        with pytest.raises(Conflict):
            await two.write(wanted("two", 5), None)
        await two.read()
        with pytest.raises(Conflict, match="epoch 5 has begun"):
            await two.write(wanted("two", 5), None)
        await one.read()
        await one.write(wanted("one", 6), None)
        await put(access, None)
        with pytest.raises(Conflict):
            await two.write(wanted("two", 6), None)


async def test_the_history_of_holders(access: FirestoreAccess) -> None:
    """Newest first, with the reason of each beginning and end."""
    async with a_record(access) as one, a_leader(access, "next") as leader:
        record = wanted("one", 1, acquired_ms=10, reason="there is no holder yet")
        version = await one.write(record, None)
        await one.write(lease.released(record, 20, "stopped"), version)
        await take(one, "two", 2)
        newest, oldest = await leader.history(9)
        assert (newest.holder, newest.ended_ms) == ("two", 0)
        assert (oldest.holder, oldest.reason) == ("one", "there is no holder yet")
        assert (oldest.began_ms, oldest.ended_ms, oldest.end) == (10, 20, "stopped")


async def test_an_unreachable_database_is_reported(access: FirestoreAccess) -> None:
    """Refused and dropped connections: both fail in time, with a message."""
    port = int(access.emulator.rpartition(":")[2])
    with a_proxy(port) as proxy:
        through = FirestoreAccess(project=access.project, emulator=proxy.address)
        async with a_record(through, timeout=0.5) as record:
            await record.read()
            proxy.weather = Weather.REFUSED
            with pytest.raises(Unavailable, match="Firestore"):
                await record.read()
            proxy.weather = Weather.SWALLOWED
            with pytest.raises(Unavailable, match="Firestore"):
                await record.read()


async def test_a_dead_connection_is_replaced(access: FirestoreAccess) -> None:
    """After a call without an answer the next one succeeds, although the old connection still hangs."""
    port = int(access.emulator.rpartition(":")[2])
    with a_proxy(port) as proxy:
        through = FirestoreAccess(project=access.project, emulator=proxy.address)
        async with a_record(through, timeout=0.5) as record:
            await record.read()
            proxy.weather = Weather.SWALLOWED
            with pytest.raises(Unavailable, match="does not answer"):
                await record.read()
            proxy.weather = Weather.CLEAR
            # A keepalive would notice it after 50 s.  A slow machine may need more than one attempt.
            async with asyncio.timeout(30):
                while not await answered(record):
                    pass
            assert proxy.connections >= 2


async def answered(record: FirestoreLease) -> bool:
    """Whether it can be read now."""
    try:
        await record.read()
    except Unavailable:
        return False
    return True


# --- the fence ------------------------------------------------------------------------------------


async def exclusive(access: FirestoreAccess, epoch: int, *, account: str = "acc") -> None:
    """Make one fenced write."""
    firestore, fence = Firestore(access, "test", 1), Fence(LEASE)

    def work(client: Any) -> None:
        batch = client.batch()
        fence.check(client, batch, epoch, account)
        batch.set(client.document("accounts/acc"), {"epoch": epoch})
        batch.commit(retry=None, timeout=5)

    try:
        await firestore.call(work)
    finally:
        firestore.close()


async def test_an_old_epoch_writes_nothing(access: FirestoreAccess) -> None:
    """After the commit that takes the lease, the old holder's writes fail as a whole."""
    async with a_record(access) as one:
        await take(one, "one", 1)
        await exclusive(access, 1)
        await take(one, "two", 2)
        for account in ("acc", "another", "a third"):
            with pytest.raises(NotFound):
                await exclusive(access, 1, account=account)
            await exclusive(access, 2, account=account)


async def test_renewals_do_not_touch_the_fence(access: FirestoreAccess) -> None:
    """A renewal and an exclusive write never wait for each other."""
    async with a_record(access) as one:
        version = await take(one, "one", 1)
        await exclusive(access, 1)
        await one.write(wanted("one", 1, renewed_ms=1), version)
        await exclusive(access, 1)


# --- the reference backend ----------------------------------------------------------------------------


async def test_a_reference_that_holds_it_is_respected(access: FirestoreAccess) -> None:
    """Until its leaseUntil has passed on the server's clock."""
    await put(access, {"holderInstanceId": "host_node", "leaseUntil": in_ms(90)})
    async with a_record(access) as one:
        decision = lease.decide_as_standby(await one.read(), "one", "one")
        assert decision.act is Act.WAIT
        assert decision.reason.startswith("host_node holds epoch 0, ")
        assert 80 < decision.again_in <= 91


async def test_a_reference_that_took_over_from_us_is_respected(access: FirestoreAccess) -> None:
    """It updates its own fields and leaves ours, which are void then."""
    async with a_record(access) as one:
        version = await take(one, "one", 3)
        await put(
            access,
            {
                "holderInstanceId": "host_node",
                "leaseUntil": in_ms(90),
                "previousHolder": "wad:one",
            },
        )
        with pytest.raises(Conflict):
            await one.write(wanted("one", 3, renewed_ms=1), version)
        seen = await one.read()
        assert seen is not None
        assert (seen.record.holder, seen.record.nonce, seen.record.epoch) == ("host_node", "", 3)
        assert lease.recognised(lease.held(wanted("one", 3), version, 0, TERMS), seen) is None


async def test_a_reference_that_let_go_leaves_our_epoch(access: FirestoreAccess) -> None:
    """It deletes the document; our next epoch is greater all the same."""
    async with a_record(access) as one:
        await take(one, "one", 3)
        await put(access, None)
        seen = await one.read()
        assert lease.acquired(seen, "one", "one", TERMS, 0).epoch == 4


async def test_the_reference_respects_us(access: FirestoreAccess) -> None:
    """Its own rule: held until leaseUntil has passed by its clock, unless the name is its own."""
    async with a_record(access) as one:
        version = await take(one, "host_node", 1)
        found = await document(access)
        assert isinstance(found["leaseUntil"], int)
        assert in_ms(60) < found["leaseUntil"] < in_ms(120)
        assert found["holderInstanceId"] == "wad:host_node"
        assert found["acquiredAt"] is not None
        record = wanted("host_node", 1)
        await one.write(lease.renewed(record, 5), version)
        renewed = await document(access)
        assert renewed["acquiredAt"] == found["acquiredAt"] < renewed["updatedAt"]
        seen = await one.read()
        assert seen is not None
        await one.write(lease.released(record, 5), seen.version)
        assert (await document(access))["leaseUntil"] < in_ms(0)


@pytest.fixture
def database(access: FirestoreAccess, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The database through the reference's own client."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", access.emulator)
    client: Any = firestore.Client(project=access.project)
    yield client
    client.close()


async def test_the_reference_waits_while_we_act_and_we_wait_for_it(
    access: FirestoreAccess, database: Any
) -> None:
    """Its own algorithm beside a leader of ours: one is active after the other, however wrong its clock is."""
    leaderships = Leaderships()
    node = [
        Reference(database, name, skew_ms=skew) for name, skew in (("one", 60_000), ("x", -9000))
    ]
    async with a_leader(access, "one") as ours:
        async with running(ours, leaderships):
            await until(lambda: leaderships.acting, "the leadership")
            for reference in node:
                assert not await asyncio.to_thread(reference.try_acquire)
        assert await asyncio.to_thread(node[0].try_acquire)
        async with running(ours, leaderships):
            await until(lambda: ours.holder == "one", "knowing the holder")
            assert ours.reason.startswith("one holds epoch 1")
            assert await asyncio.to_thread(node[0].try_acquire)
            assert not leaderships.acting
            await asyncio.to_thread(node[0].release)
            await until(lambda: leaderships.acting, "the next leadership")
    assert leaderships.epochs == [1, 2]


# --- the leader on it ---------------------------------------------------------------------------------


async def test_the_standby_takes_over_at_once_from_one_that_stops(access: FirestoreAccess) -> None:
    """It listens: the release wakes it, long before the ttl."""
    first, second = Leaderships(), Leaderships()
    async with a_leader(access, "one") as one, a_leader(access, "two") as two:
        async with running(two, second):
            await until(lambda: second.acting, "the first leadership")
            waiting = asyncio.create_task(one.run(first.lead))
            await until(lambda: one.holder == "two", "knowing the holder")
        await until(lambda: first.acting, "the second leadership")
        newest, oldest = await one.history(9)
        assert newest.reason == "epoch 1 was released"
        assert (newest.began_ms - oldest.ended_ms) < TERMS.ttl * 1000
        waiting.cancel()
        await asyncio.wait([waiting])


@pytest.mark.parametrize("weather", [Weather.SWALLOWED, Weather.DEAF, Weather.REFUSED])
async def test_cut_off_it_steps_down_before_another_acts(
    access: FirestoreAccess, weather: Weather
) -> None:
    """However the network fails; and it is a standby again once the network is back."""
    first, second = Leaderships(), Leaderships()
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        through = FirestoreAccess(project=access.project, emulator=proxy.address)
        async with (
            a_leader(through, "one") as one,
            a_leader(access, "two") as two,
            running(one, first),
        ):
            await until(lambda: first.acting, "the first leadership")
            async with running(two, second):
                await until(lambda: two.holder == "one", "knowing the holder")
                proxy.weather = weather
                await until(lambda: first.acting or second.acting, "a leadership")
                await until(lambda: not first.acting, "stepping down")
                assert not second.acting
                await until(lambda: second.acting, "the second leadership")
                proxy.weather = Weather.CLEAR
                await until(lambda: one.holder == "two", "standing by")
                assert not first.acting
            await until(lambda: first.acting, "acting again")
    assert (first.epochs, second.epochs) == ([1, 3], [2])


async def test_slow_renewals_are_renewals(access: FirestoreAccess) -> None:
    """A delayed network does not end the lease."""
    leaderships = Leaderships()
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        proxy.delay = 0.05
        through = FirestoreAccess(project=access.project, emulator=proxy.address)
        async with a_leader(through, "one") as one, running(one, leaderships):
            await until(lambda: leaderships.acting, "the leadership")
            held = [one.seen]
            await until(lambda: one.seen != held[0], "a renewal")
            assert leaderships.epochs == [1]


async def test_unreachable_at_the_start_it_is_passive_with_the_reason(
    access: FirestoreAccess,
) -> None:
    """It does not crash, and is active as soon as it can be."""
    leaderships = Leaderships()
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        proxy.weather = Weather.REFUSED
        through = FirestoreAccess(project=access.project, emulator=proxy.address)
        async with a_leader(through, "one") as one, running(one, leaderships):
            await until(lambda: one.settled.is_set(), "knowing where it stands")
            assert one.reason.startswith("cannot read the lease: Firestore is unreachable")
            proxy.weather = Weather.CLEAR
            await until(lambda: leaderships.acting, "the leadership")
