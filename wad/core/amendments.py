"""How edits, revokes, reactions, votes, pins and better copies of its file change a message.

Pure, and independent of order and repetition: the newest edit counts, by the time that its sender gave it; a revoke
outranks every edit; of each person the newest reaction and the newest vote count, and an empty reaction removes theirs.
Only its author may edit a message or replace its file; its author, or a group's admin, may revoke it; anyone in the
chat may pin or keep it, and the newest pin and keep count.  A better copy that follows its message soon replaces the
file, as the same photo in HD does; a later one is a new version of the message, like an edit.
Not verified here: whether the sender of a revoke of another person's message is an admin; we trust WhatsApp's server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from wad.core.change import PutAmendment
from wad.core.content import LONGEST_PIN, Content, MessageKind, Vote
from wad.core.jid import Jid, JidKind
from wad.core.message import Ballot, Message, MessageVersion, Reaction

_pack: Final = msgspec.msgpack.Encoder().encode
BETTER_COPY_WINDOW_MS: Final = 10 * 60_000
"""How long after its message a better copy is the same file.  Clients send it as soon as it is uploaded; no source
names a limit, so this is ours: time for a slow upload, but less than for an edit."""
VERSIONS_LIMIT: Final = 50
"""How many earlier versions of a message are shown."""


def amended(original: Message, amendments: Iterable[PutAmendment]) -> Message:
    """The present message: `original` with all its amendments applied."""
    found = sorted(amendments, key=_order)
    versions = _versions(original, found)
    edited_ms = versions[-1].at_ms if len(versions) > 1 else 0
    revoked_ms, revoked_by = 0, ""
    for revoke in _of(found, MessageKind.REVOKE):
        if _may_revoke(original, revoke):
            revoked_ms, revoked_by = revoke.at_ms, revoke.by
            versions.append(MessageVersion(Content(MessageKind.REVOKE), revoke.at_ms))
            break
    return msgspec.structs.replace(
        original,
        content=versions[-1].content,
        earlier=_bounded(versions[:-1]),
        edited_ms=edited_ms,
        revoked_ms=revoked_ms,
        revoked_by=revoked_by,
        reactions=_reactions(_of(found, MessageKind.REACTION)),
        votes=_votes(_of(found, MessageKind.POLL_VOTE)),
        pinned_until_ms=0 if revoked_ms else _pinned_until(_of(found, MessageKind.PIN)),
        kept=not revoked_ms
        and any(one.content.active for one in _of(found, MessageKind.KEEP)[-1:]),
    )


def _versions(original: Message, found: list[PutAmendment]) -> list[MessageVersion]:
    """The message as it was written, and after each edit and each late copy of its file, by its author."""
    copies = [
        copy
        for copy in _of(found, MessageKind.MEDIA_UPDATE)
        if original.content.media is not None and _is_author(original, copy) and copy.content.media
    ]
    edits = [edit for edit in _of(found, MessageKind.EDIT) if _is_author(original, edit)]
    late = [one for one in copies if one.at_ms > original.at_ms + BETTER_COPY_WINDOW_MS]
    first = original.content
    for copy in copies:
        if copy not in late:
            first = _with_copy(first, copy.content)
    versions = [MessageVersion(first, original.at_ms)]
    for change in sorted([*edits, *late], key=_order):
        now = versions[-1].content
        if change.content.kind is MessageKind.EDIT:
            now = _edited(msgspec.structs.replace(first, media=now.media), change.content)
        else:
            now = _with_copy(now, change.content)
        versions.append(MessageVersion(now, change.at_ms))
    return versions


def _with_copy(content: Content, copy: Content) -> Content:
    """The content with another copy of its file; the caption stays where the copy has none."""
    return msgspec.structs.replace(content, media=copy.media, text=content.text or copy.text)


def _pinned_until(pins: list[PutAmendment]) -> int:
    if not pins or not pins[-1].content.active:
        return 0
    return pins[-1].at_ms + min(pins[-1].content.expires_s, LONGEST_PIN) * 1000


def _bounded(versions: list[MessageVersion]) -> tuple[MessageVersion, ...]:
    """The stored earlier versions: the first and the newest ones, since a sender may edit without end."""
    if len(versions) <= VERSIONS_LIMIT:
        return tuple(versions)
    return (versions[0], *versions[1 - VERSIONS_LIMIT :])


def _order(amendment: PutAmendment) -> tuple[int, str, str, tuple[str, str, bytes]]:
    said = amendment.content
    # A sender may send two different ones with the same id and time: their contents order them.
    by_content = said.text, repr(said.vote), _pack(said)
    return amendment.at_ms, amendment.wa_id, amendment.by, by_content


def _of(found: list[PutAmendment], kind: MessageKind) -> list[PutAmendment]:
    return [amendment for amendment in found if amendment.content.kind is kind]


def _is_author(original: Message, amendment: PutAmendment) -> bool:
    if original.from_me or amendment.from_me:
        return original.from_me and amendment.from_me
    return Jid.parse(original.chat).is_person or amendment.by == original.sender


def _may_revoke(original: Message, revoke: PutAmendment) -> bool:
    if revoke.content.by_admin and Jid.parse(original.chat).kind is JidKind.GROUP:
        return True
    return _is_author(original, revoke)


def _edited(original: Content, edit: Content) -> Content:
    # A picture stays, its caption changes; a poll gets the options that its author added.
    poll = original.poll and (edit.poll or original.poll)
    return msgspec.structs.replace(
        original, text=edit.text, mentions=edit.mentions, link=edit.link, poll=poll
    )


def _reactions(found: list[PutAmendment]) -> tuple[Reaction, ...]:
    newest = {(one.from_me, one.by): one for one in found}
    return tuple(
        Reaction(one.by, one.content.text, one.at_ms, one.from_me)
        for _, one in sorted(newest.items())
        if one.content.text
    )


def _votes(found: list[PutAmendment]) -> tuple[Ballot, ...]:
    newest: dict[tuple[bool, str], Ballot] = {}
    for one in found:
        key, vote = (one.from_me, one.by), one.content.vote or Vote()
        before = newest.get(key)
        if before is not None and (before.at_ms, before.wa_id) == (one.at_ms, one.wa_id):
            # The same vote, once encrypted and once in clear.
            original = Vote(before.payload, before.iv, before.options)
            vote = min(vote, original, key=lambda v: (bool(v.payload), v.payload, v.iv, v.options))
        newest[key] = Ballot(
            one.by, one.at_ms, one.wa_id, one.from_me, vote.payload, vote.iv, vote.options
        )
    return tuple(ballot for _, ballot in sorted(newest.items()))
