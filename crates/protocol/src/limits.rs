//! Every limit of the engine and the protocol, with unit and reason.

/// Largest number on the wire: what a JSON reader in JavaScript holds exactly.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// One record as JSON text, bytes. Keeps a page and a log row bounded.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// A record's id, bytes (UTF-8).
pub const ID_BYTES_MAX: usize = 128;
/// Nesting of a record's JSON. Keeps every recursive reader off the end of its stack.
pub const JSON_DEPTH_MAX: usize = 64;
/// One push request, raw JSON bytes (before compression).
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Mutations in one push request that a server must take.
pub const BATCH_COUNT_MAX: usize = 1000;
/// Mutations in one push request unless an app says otherwise.
pub const BATCH_COUNT_DEFAULT: usize = 100;
/// Changes in one page of a pull; soft by one push transaction.
pub const PAGE_COUNT_MAX: usize = 1000;
/// Bytes in one page of a pull; soft by one push transaction.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Entries in one group.
pub const GROUP_COUNT_MAX: usize = 100;
/// Bytes in one group.
pub const GROUP_BYTES_MAX: usize = 256 * 1024;
/// Entries waiting in one outbox; then writes are refused with `outbox_full`.
pub const OUTBOX_COUNT_MAX: usize = 1_000_000;
/// Unsettled mutations of one client.
pub const IN_FLIGHT_MAX: usize = 1000;
/// Scopes one user may hold.
pub const SCOPES_MAX: usize = 256;
/// Unsent entries of one record; then writes to it are refused with `lane_full`. A view is folded from them.
pub const LANE_COUNT_MAX: usize = 1000;
/// How far ahead of the server a client stamp may be before it is clamped, ms.
pub const HLC_AHEAD_MS_MAX: u64 = 60_000;
/// Longest `Retry-After` that is obeyed, ms.
pub const RETRY_AFTER_MS_MAX: u64 = 3_600_000;
/// How far ahead of the server a time may be that must not lie in the future, ms.
pub const NOT_FUTURE_MS: u64 = 300_000;
/// Records that one delete may take along.
pub const CASCADE_COUNT_MAX: usize = 1000;
/// Change log and tombstones are kept this long, ms.
pub const CHANGE_LOG_MS: u64 = 30 * 24 * 3_600_000;
/// Changes kept for one scope.
pub const CHANGE_LOG_COUNT_MAX: u64 = 1_000_000;
/// A client that did not speak for this long is forgotten, ms.
pub const CLIENT_IDLE_MS: u64 = 400 * 24 * 3_600_000;
/// Acknowledged mutations that a client keeps for a restored server, count and ms.
pub const ACKED_COUNT_MAX: usize = 10_000;
pub const ACKED_MS: u64 = 24 * 3_600_000;
/// Conflict records kept by a client; of more, the oldest go.
pub const CONFLICT_COUNT_MAX: usize = 10_000;
/// The row that holds room back for a full device, bytes. Large enough for Chromium to make it a file of its own.
pub const FILLER_BYTES: usize = 256 * 1024;
/// A batch while the device has no room, bytes: with its outcomes it fits into the filler's room several times.
pub const BATCH_BYTES_TIGHT: usize = 32 * 1024;
/// Bodies of requests after decompression, bytes: a batch and its envelope.
pub const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + 64 * 1024;
/// A request is aborted after this long and counts as a network error, ms; what its body takes at the least rate is added.
pub const REQUEST_MS_MAX: u64 = 40_000;
/// The least rate of a line that a body is sent over, bytes in a millisecond: a slow line is not a dead one.
pub const UPLOAD_BYTES_PER_MS: u64 = 4;
/// Of it, to the headers of the answer, and then to the end of its body, ms; a probe as a whole.
pub const HEADERS_MS_MAX: u64 = 30_000;
pub const BODY_MS_MAX: u64 = 30_000;
pub const PROBE_MS_MAX: u64 = 10_000;
/// A request whose body is larger than this is compressed, bytes.
pub const GZIP_ABOVE_BYTES: usize = 1024;
/// What a page may send as it leaves, bytes: browsers take 64 KiB of it at a time (Fetch, 4.6).
pub const KEEPALIVE_BYTES_MAX: usize = 60_000;
/// Server ping on the live channel, ms.
pub const LIVE_PING_MS: u64 = 25_000;
