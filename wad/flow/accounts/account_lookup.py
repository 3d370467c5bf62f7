"""Finding an account by its id, name or number."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from wad.core.account_reference import Names, is_exact, reference_kind, similar
from wad.core.errors import Conflict, NotFound, UnknownAccount, WadError
from wad.core.session_location import SessionLocation, elsewhere_reason
from wad.flow.accounts.account import Account
from wad.state.account_dir import AccountCard, RemovedAccount

T = TypeVar("T")

_NAMED: Final = 10  # accounts that a hint names


def find(ref: str, here: Sequence[Account], elsewhere: Iterable[SessionLocation]) -> Account:
    """The account with this id, name or whole number.

    Raises UnknownAccount, Conflict if it matches several accounts or one on another machine.
    """
    if (account := choose(ref, here, lambda account: names_of(account.card))) is not None:
        return account
    location = choose(ref, elsewhere, _names_of_location)
    raise _unknown(ref, here) if location is None else _elsewhere_error(location)


def by_id(ident: str, here: Sequence[Account], elsewhere: Iterable[SessionLocation]) -> Account:
    """The account with exactly this id.  Raises as `find`."""
    for account in here:
        if account.id == ident:
            return account
    for location in elsewhere:
        if location.account == ident:
            raise _elsewhere_error(location)
    raise _unknown(ident, here)


def latest_removed(ref: str, removed: Iterable[RemovedAccount]) -> RemovedAccount:
    """The removed account that a reference matches.  Raises NotFound, Conflict if several do."""
    latest = {one.id: one for one in removed}  # in the order of their removal
    found = latest.get(ref) or choose(ref, latest.values(), lambda one: names_of(one.card))
    if found is None:
        raise NotFound(
            f"removed account not found: {ref!r}",
            hint=f"removed accounts: {_listed(sorted(latest))}",
        )
    return found


def names_of(card: AccountCard) -> Names:
    """The id, name and number of an account, by which it can be found."""
    return Names(card.id, card.name, card.phone)


def _names_of_location(location: SessionLocation) -> Names:
    return Names(location.account, location.name, location.phone)


def choose(ref: str, among: Iterable[T], names: Callable[[T], Names]) -> T | None:
    """The item that a reference matches; None if none does.  Raises Conflict if several do."""
    found = [(one, how) for one in among if (how := reference_kind(ref, names(one))) is not None]
    exact = [(one, how) for one, how in found if is_exact(ref, names(one))]
    found = exact if len(exact) == 1 else found
    if len(found) > 1:
        means = " and ".join(f"the {how} of {names(one).id}" for one, how in found[:_NAMED])
        raise Conflict(
            f"{ref!r} is ambiguous: {means}", hint="use an id, name or number of only one of them"
        )
    return found[0][0] if found else None


def _unknown(ref: str, here: Iterable[Account]) -> WadError:
    known = [names_of(account.card) for account in here]
    if close := similar(ref, known):
        hint = f"did you mean {shlex.quote(close)}?"
    else:
        hint = f"accounts here: {_listed([names.name or names.id for names in known])}"
    return UnknownAccount(f"there is no account {ref!r}", hint=hint)


def _listed(idents: Sequence[str]) -> str:
    more = f" and {len(idents) - _NAMED} more" if len(idents) > _NAMED else ""
    return ", ".join(idents[:_NAMED]) + more or "none"


def _elsewhere_error(location: SessionLocation) -> Conflict:
    return Conflict(
        f"account {location.account} is elsewhere: {elsewhere_reason(location)}",
        hint=f"use {location.instance}, or move the session: wadctl session export",
    )
