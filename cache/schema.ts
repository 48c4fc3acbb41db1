/**
 * The database's schema as the steps that lead to it: entry n brings version n to n + 1 (`PRAGMA user_version`). Published
 * entries never change. Times are milliseconds since 1970.
 */
export const MIGRATIONS: readonly string[] = [
  `
  -- One row for each step that ran: the memo of a key.
  CREATE TABLE records (
    key TEXT PRIMARY KEY,
    action TEXT NOT NULL,
    preimage TEXT NOT NULL,
    parent TEXT,
    diff_id TEXT,
    layer_bytes INTEGER,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    duration_ms REAL NOT NULL
  );
  CREATE INDEX records_action ON records (action);
  CREATE INDEX records_diff_id ON records (diff_id);

  -- What each step of each Dockerfile came to last, to name the first difference of a miss.
  CREATE TABLE slots (
    slot TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    preimage TEXT NOT NULL,
    used_at INTEGER NOT NULL
  );
  CREATE TABLE slot_inputs (
    slot TEXT NOT NULL REFERENCES slots (slot) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (slot, digest)
  ) WITHOUT ROWID;
  CREATE INDEX slot_inputs_digest ON slot_inputs (digest);

  -- File facts of inputs that a slot names: JSON, zstd.
  CREATE TABLE listings (
    digest TEXT PRIMARY KEY,
    facts BLOB NOT NULL
  );

  -- Processes that have the store open, and the diffs that they hold.
  CREATE TABLE sessions (
    session TEXT PRIMARY KEY
  ) WITHOUT ROWID;
  CREATE TABLE holds (
    session TEXT NOT NULL REFERENCES sessions (session) ON DELETE CASCADE,
    diff_id TEXT NOT NULL,
    PRIMARY KEY (session, diff_id)
  ) WITHOUT ROWID;

  CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    started_at INTEGER NOT NULL,
    report TEXT NOT NULL
  );
  CREATE INDEX builds_started_at ON builds (started_at);
  `,
];
