"""The types of the replies in the replaced backend's format: what its apps, probes and scripts can rely on.

They describe the plain documents that the handlers build (`/openapi.json`); a test compares both key by key.  A field
that is not always present is `NotRequired`.  Times of threads and messages are `Timestamp`, all others ISO texts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

Yes = Annotated[bool, Meta(extra_json_schema={"const": True})]
No = Annotated[bool, Meta(extra_json_schema={"const": False})]
Mode = Literal["active", "passive"]
AccountStatus = Literal[
    "connected", "connecting", "qr_ready", "needs_qr", "logged_out", "passive", "disconnected"
]
Direction = Literal["inbound", "outbound"]
MessageState = Literal["queued", "sent", "delivered", "read", "failed"]
MessageType = Literal["text", "image", "video", "audio", "document", "sticker", "unknown"]
PeerType = Literal["user", "group", "lid"]
LockStatus = Literal["held_by_this_instance", "held_by_other", "not_held"]
Firestore = Literal["connected", "disconnected", "disabled"]
Health = Literal["healthy", "degraded"]


class Timestamp(TypedDict):
    """A time in the JSON form of a Firestore Timestamp."""

    _seconds: int
    _nanoseconds: int


class FromInstance(TypedDict):
    """The fields of most replies: the instance, its mode, and the id of the request."""

    success: Yes
    instanceId: str
    waMode: Mode
    requestId: str


# --- accounts -------------------------------------------------------------------------------------


class AccountName(TypedDict):
    """An account without its connection."""

    id: str
    name: str
    phone: str | None
    status: AccountStatus


class NewAccountDocument(AccountName):
    """An account that was added.  `qrCode` is the data URL of an image, for administrators only."""

    qrCode: str | None
    pairingCode: None
    createdAt: str | None


class AccountDocument(NewAccountDocument):
    """An account in a list."""

    lastUpdate: Timestamp
    lastError: str | None
    passiveModeReason: str | None


class AccountList(FromInstance):
    """All accounts."""

    accounts: list[AccountDocument]
    cached: No
    lockReason: str


class AccountAdded(FromInstance):
    """The account that was added; `existing`: it was there before."""

    account: NewAccountDocument
    existing: bool


class AccountRenamed(FromInstance):
    """The renamed account."""

    message: str
    account: AccountName


class AccountDeleted(FromInstance):
    """The account that was removed."""

    message: str
    accountId: str
    deletedFromMemory: bool
    deletedFromFirestore: bool
    status: Literal["deleted"]


class AccountReset(FromInstance):
    """The account that is no longer paired."""

    message: str
    accountId: str
    status: Literal["needs_qr"]


class AccountDisconnected(FromInstance):
    """The account that was stopped; `tsDisconnect` is in ms since 1970."""

    accountId: str
    tsDisconnect: int
    reason: Literal["user_disconnect"]


class PairingStarted(FromInstance):
    """The state of the pairing; with a valid code, the code itself (null for callers that may not see it)."""

    message: str
    status: Literal["in_progress", "already_in_progress", "already_connecting", "qr_ready"]
    accountId: str
    qrCode: NotRequired[str | None]
    ageSeconds: NotRequired[int]
    idempotent: NotRequired[Yes]


class AccountHealth(TypedDict):
    """The state of one account's connection; times in ms."""

    success: Yes
    accountId: str
    status: AccountStatus
    connected: bool
    lastRealMessageMs: int | None
    timeSinceLastRealMs: int | None
    isDegraded: bool
    warning: str | None


# --- conversations --------------------------------------------------------------------------------


class MessageKey(TypedDict):
    """WhatsApp's key of a message; `timestamp` in seconds."""

    id: str | None
    remoteJid: str
    fromMe: bool
    timestamp: int
    participant: NotRequired[str]


class MediaDocument(TypedDict):
    """A message's file, as its sender described it."""

    type: str
    mimetype: str
    mimeType: str
    filename: str | None
    fileName: str | None
    sizeBytes: int
    caption: str | None
    url: str | None
    storagePath: str | None
    thumbBase64: str | None


class ReactionDocument(TypedDict):
    """A reaction to a message."""

    by: str | None
    fromMe: bool
    text: str
    atMs: int


class AppMessage(TypedDict):
    """A message; a shortened one has `truncated`."""

    id: str
    accountId: str
    threadId: str
    canonicalThreadId: str
    clientJid: str
    clientJidRaw: str
    rawJid: str
    resolvedJid: str
    normalizedPhone: str | None
    peerType: PeerType
    isGroup: bool
    direction: Direction
    body: str | None
    messageType: MessageType
    kind: str
    preview: str
    status: MessageState
    statusDetail: str
    senderId: str | None
    senderJid: str | None
    senderName: str | None
    senderDisplayName: str | None
    senderPhoneE164: str | None
    lastSenderName: str | None
    key: MessageKey
    source: str
    syncSource: str
    waMessageId: str | None
    waMessageIdRaw: str | None
    providerMessageId: str | None
    clientMessageId: str | None
    stableKeyHash: str | None
    fingerprintHash: str | None
    isDuplicate: bool
    tsClient: Timestamp
    tsClientMs: int
    tsClientIso: str
    tsClientFallback: bool
    tsClientReason: None
    tsServer: Timestamp
    ingestedAt: Timestamp
    tsSort: Timestamp
    arrivedUs: int
    createdAt: Timestamp
    createdAtMs: int
    syncedAt: Timestamp
    updatedAt: Timestamp
    edited: bool
    editedAtMs: int | None
    deleted: bool
    deletedAtMs: int | None
    pinnedUntilMs: int | None
    kept: bool
    reactions: list[ReactionDocument]
    mediaType: str | None
    media: MediaDocument | None
    truncated: NotRequired[Yes]


class InboxMessage(AppMessage):
    """A message with what is shown of its thread."""

    messageId: str
    displayName: str
    contactType: Literal["group", "linked_device", "phone"]


class AppThread(TypedDict):
    """A thread with its last message."""

    id: str
    accountId: str
    accountName: str
    threadId: str
    canonicalThreadId: str
    redirectTo: None
    clientJid: str
    clientJidRaw: str
    rawJid: str
    resolvedJid: str
    canonicalJid: str
    peerType: PeerType
    isGroup: bool
    isLid: bool
    isLidThread: bool
    displayName: str
    name: str | None
    groupSubject: str | None
    phone: str | None
    phoneE164: str | None
    phoneNumber: str | None
    normalizedPhone: str | None
    lastMessageAt: Timestamp
    lastMessageAtMs: int
    lastMessageTimestamp: int
    lastMessageText: str
    lastMessagePreview: str
    lastMessageDirection: Direction
    lastMessageSenderName: str | None
    updatedAt: Timestamp
    unreadCount: int
    messageCount: int
    expiresSeconds: int
    archived: bool
    hidden: bool


class ThreadWithMessages(AppThread):
    """A thread with its newest messages."""

    messages: list[AppMessage]


class ThreadList(TypedDict):
    """A page of threads."""

    success: Yes
    threads: list[AppThread]
    count: int
    nextCursor: str | None


class MessageList(TypedDict):
    """A page of one thread's messages; without a thread in the request, threads with their newest messages."""

    success: Yes
    thread: NotRequired[AppThread]
    messages: NotRequired[list[AppMessage]]
    count: NotRequired[int]
    nextCursor: NotRequired[str | None]
    threads: NotRequired[list[ThreadWithMessages]]


class InboxList(TypedDict):
    """The newest messages of all threads."""

    success: Yes
    messages: list[InboxMessage]
    count: int
    totalMessages: int


# --- sending --------------------------------------------------------------------------------------


class MessageSent(TypedDict):
    """A sent or queued message.

    `messageId` is the message's `id` in lists, whatever its state; `waMessageId` is WhatsApp's id, null until it is
    known.
    """

    success: Yes
    messageId: str
    waMessageId: str | None
    status: Literal["queued", "sending", "sent", "uncertain"]
    clientMessageId: str
    requestId: str
    queued: NotRequired[bool]
    duplicate: NotRequired[Yes]


class ProxySent(TypedDict):
    """A message queued in the format of the apps' proxy; `requestId` is its `id` in lists."""

    success: Yes
    requestId: str
    duplicate: bool
    message: str


# --- others ---------------------------------------------------------------------------------------


class AutoReplyDocument(TypedDict):
    """The stored auto-reply settings; wad itself sends no replies."""

    success: Yes
    enabled: bool
    prompt: str | None
    writesReplies: No
    note: str
    logic: NotRequired[Any]
    restrictions: NotRequired[Any]
    pricing: NotRequired[Any]
    faq: NotRequired[Any]
    extraction: NotRequired[Any]


class BackfillStarted(TypedDict):
    """A backfill that runs."""

    success: Yes
    message: str
    accountId: str
    running: bool


class RepairResult(TypedDict):
    """The account, messages that were requested, and threads whose counts were wrong."""

    account: str
    asked: int
    recounted: int


class Repaired(TypedDict):
    """The result of a repair."""

    success: Yes
    accountId: str
    result: RepairResult


class OutboxCounts(TypedDict):
    """The outbox in numbers."""

    success: Yes
    activeAccounts: int
    queuedCount: int
    processingCount: int
    sentLast5m: int
    failedLast5m: int
    reconnectCount: int
    outboxLagSeconds: float
    timestamp: str


class WhoAmI(TypedDict):
    """The caller."""

    success: Yes
    uid: str | None
    email: str | None
    name: str
    isSuperAdmin: bool
    isEmployee: bool


# --- probes ---------------------------------------------------------------------------------------


class WrittenCounts(TypedDict):
    """Messages stored and duplicates received since the start."""

    wrote: int
    skipped: int
    strongSkipped: int


class HistoryWritten(TypedDict):
    """The same for the phone's history; the last two fields are about its latest chunk."""

    wrote: int
    skipped: int
    lastRunAt: str | None
    lastBatchCount: int | None


class HealthProblem(TypedDict):
    """One kind of problem."""

    code: str
    count: int
    degrades: bool
    since: str | None


class Backlog(TypedDict):
    """Received rows that are not stored yet."""

    rows: int
    oldestSeconds: float | None


class SyncBacklog(TypedDict):
    """Documents that wait for their upload to Firestore."""

    documents: int
    oldestSeconds: float | None
    refused: int


class HealthDocument(TypedDict):
    """The health of the daemon; while it does not answer, only the fields that are always present."""

    ok: bool
    status: Health
    reasons: list[str]
    problems: list[HealthProblem]
    service: str
    version: str
    commit: str | None
    instanceId: str
    waMode: Mode
    lockStatus: LockStatus
    lockHolder: str | None
    lockRemainingSec: int | None
    bootTimestamp: str
    uptime: float
    timestamp: str
    requestId: str
    accounts_total: int
    connected: int
    needs_qr: int
    sessions_dir_writable: bool | None
    dedupe: WrittenCounts
    history: HistoryWritten
    firestore: Firestore
    receipts: str | None
    backlog: Backlog
    store: str
    sync: SyncBacklog | None
    warnings: int
    internalErrors: int


class Alive(TypedDict):
    """The process responds."""

    status: Literal["ok"]
    timestamp: str


class Ready(TypedDict):
    """Whether this instance is active; `reason` if it is not."""

    ready: bool
    mode: Mode
    instanceId: str
    lockStatus: LockStatus
    heldBy: str | None
    lockExpiresInSeconds: int | None
    reason: NotRequired[str]
    timestamp: str


class ReadyChecks(TypedDict):
    """`firestore`: uploads work, or another store is used; `worker`: this instance is active; `sessions`: writable."""

    firestore: bool
    worker: bool
    sessions: bool | None
    timestamp: str


class ReadyForBalancer(TypedDict):
    """Whether this instance can handle requests."""

    status: Literal["ready", "not_ready"]
    checks: ReadyChecks


class LatestEvents(TypedDict):
    """The latest events of an account."""

    accountId: str
    lastRealtimeIngestAt: str | None
    lastRealtimeMessageAt: str | None
    lastRealtimeError: str | None


class Diagnosis(TypedDict):
    """The lease, and the accounts with the latest events."""

    ready: bool
    mode: Mode
    instanceId: str
    firestoreConnected: bool
    latestRealtime: list[LatestEvents]
    timestamp: str


class ConnectionRow(TypedDict):
    """An account's connection."""

    accountId: str
    status: AccountStatus
    hasDiskSession: bool
    needs_qr: bool
    lastEventAt: str | None
    reconnectCount: int
    isStale: bool
    leaseUntil: str | None


class DetailedRow(ConnectionRow):
    """An account's connection, with the ms since its last event."""

    timeSinceLastEvent: int | None


class Monitoring(TypedDict):
    """When an account counts as stale, in ms, and how many do."""

    staleThresholdMs: int
    staleAccounts: int


class DetailedHealth(TypedDict):
    """The connection of each account; `uptime` in seconds."""

    status: Health
    timestamp: str
    uptime: float
    waMode: Mode
    instanceId: str
    sessions_dir_writable: bool | None
    monitoring: Monitoring
    accounts: list[DetailedRow]


class DashboardService(TypedDict):
    """The daemon."""

    status: Health
    uptime: float
    version: str
    firestoreConnected: bool
    historySyncEnabled: bool
    historySyncDryRun: bool
    backendBaseUrl: str | None
    waMode: Mode
    instanceId: str
    lockStatus: LockStatus
    lockHolder: str | None
    lockRemainingSec: int | None
    dedupeTotals: WrittenCounts
    historyTotals: HistoryWritten


class DashboardStorage(TypedDict):
    """The directory of the sessions."""

    path: str
    writable: bool | None
    totalAccounts: int


class DashboardRow(ConnectionRow):
    """An account on the dashboard."""

    phone: str | None
    lastMessageAt: str | None
    lastSeen: str | None
    reconnectAttempts: int
    lastBackfillAt: str | None
    lastHistorySyncAt: str | None
    dedupe: WrittenCounts
    history: HistoryWritten


class DashboardSummary(TypedDict):
    """The number of accounts in each group; each account counts once."""

    connected: int
    connecting: int
    disconnected: int
    needs_qr: int
    total: int


class Dashboard(TypedDict):
    """An overview of all accounts."""

    timestamp: str
    service: DashboardService
    storage: DashboardStorage
    accounts: list[DashboardRow]
    summary: DashboardSummary
