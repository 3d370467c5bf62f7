"""The private names of Google's library that wad uses: an upgrade that changes one of them fails here."""

from __future__ import annotations

from google.cloud.firestore_v1.services.firestore import FirestoreClient

from wad.store.firestore.client import internals
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore


async def test_names_and_headers(access: FirestoreAccess) -> None:
    """They name the project's database."""

    def look(client: Client) -> tuple[str, str, object, list[str]]:
        return (
            internals.database_name(client),
            internals.document_name(client, "accounts/a"),
            internals.api(client),
            [value for _, value in internals.metadata(client)],
        )

    name = f"projects/{access.project}/databases/(default)"
    found = await Firestore(access, "internals", 1).call(look)
    assert found[:2] == (name, f"{name}/documents/accounts/a")
    assert isinstance(found[2], FirestoreClient)
    assert any(name in value for value in found[3])


async def test_a_query_as_it_is_sent(access: FirestoreAccess) -> None:
    """Its parent, its collection and its order."""

    def look(client: Client) -> tuple[str, str, list[str], bool]:
        query = client.collection("a/1/messages").order_by("at").order_by("__name__")
        parent, sent = internals.on_the_wire(query)
        same = internals.client_of(query) is client
        return parent, sent.from_[0].collection_id, internals.order_of(query), same

    parent, collection, order, same = await Firestore(access, "internals", 1).call(look)
    assert parent == f"projects/{access.project}/databases/(default)/documents/a/1"
    assert (collection, order, same) == ("messages", ["at", "__name__"], True)
