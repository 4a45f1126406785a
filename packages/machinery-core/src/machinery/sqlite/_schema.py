"""The tables. Times are Unix microseconds (64 bits of nanoseconds would end in 2262)."""

from __future__ import annotations

VERSION = 1
"""Grows with every change of the tables that an older release could not live with."""

READY, DELAYED, ON_LOAN = 0, 1, 2
"""Where a message is. A dead one is in a table of its own."""

# position: the order among the ready ones of a priority; while delayed, the time it is due. A message handed back keeps its
# position, and so stands at the head again. body is last: what comes before it is read without touching overflow pages.
TABLES = """
CREATE TABLE IF NOT EXISTS machinery_schema (version INTEGER NOT NULL);

CREATE TABLE IF NOT EXISTS machinery_messages (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    status INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    position INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    holder TEXT,
    loan INTEGER,
    beat INTEGER,
    lease REAL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS machinery_messages_ready
    ON machinery_messages (queue, priority DESC, position, id) WHERE status = 0;
CREATE INDEX IF NOT EXISTS machinery_messages_delayed ON machinery_messages (position) WHERE status = 1;
CREATE INDEX IF NOT EXISTS machinery_messages_on_loan ON machinery_messages (holder) WHERE status = 2;

CREATE TABLE IF NOT EXISTS machinery_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    reason TEXT NOT NULL,
    died_at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS machinery_dead_letters_queue ON machinery_dead_letters (queue, id);

CREATE TABLE IF NOT EXISTS machinery_records (
    task_uuid TEXT PRIMARY KEY,
    final INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    task_name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    record BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS machinery_records_expires ON machinery_records (expires);

CREATE TABLE IF NOT EXISTS machinery_groups (
    group_uuid TEXT PRIMARY KEY,
    expires INTEGER NOT NULL,
    last_finish INTEGER NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0,
    closed INTEGER NOT NULL DEFAULT 0,
    claimant TEXT NOT NULL DEFAULT '',
    callback BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS machinery_groups_expires ON machinery_groups (expires);
CREATE INDEX IF NOT EXISTS machinery_groups_idle
    ON machinery_groups (last_finish) WHERE closed = 0 AND callback IS NOT NULL;

-- Apart from the counts: SQLite writes a row as a whole, and this one grows with the group.
CREATE TABLE IF NOT EXISTS machinery_group_metas (
    group_uuid TEXT PRIMARY KEY,
    meta BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS machinery_members (
    group_uuid TEXT NOT NULL,
    task_uuid TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_uuid, task_uuid)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS machinery_members_task ON machinery_members (task_uuid);

CREATE TABLE IF NOT EXISTS machinery_locks (
    key TEXT PRIMARY KEY,
    until INTEGER NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS machinery_locks_until ON machinery_locks (until);

CREATE TABLE IF NOT EXISTS machinery_holds (
    key TEXT PRIMARY KEY,
    until INTEGER NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS machinery_holds_until ON machinery_holds (until);

CREATE TABLE IF NOT EXISTS machinery_fences (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
);
"""

STATEMENTS = tuple(statement.strip() for statement in TABLES.split(";") if statement.strip())
