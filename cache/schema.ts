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
  `
  -- When the step ran last with this result; older records do not know, and came about when they were written.
  ALTER TABLE records ADD COLUMN ran_at INTEGER NOT NULL DEFAULT 0;
  UPDATE records SET ran_at = created_at;
  -- What the step stood on, as JSON, to run it again; older records do not know.
  ALTER TABLE records ADD COLUMN stands_on TEXT;
  -- How its result came about: older records all ran.
  ALTER TABLE records ADD COLUMN origin TEXT NOT NULL DEFAULT 'ran';
  DROP INDEX records_action;
  CREATE INDEX records_action ON records (action, ran_at);

  -- What was looked at by steps of an observed key: paths with uses, and the programs that looked first (zstd).
  CREATE TABLE path_sets (
    id INTEGER PRIMARY KEY,
    observed_key TEXT NOT NULL,
    digest TEXT NOT NULL,
    paths BLOB NOT NULL,
    programs BLOB NOT NULL,
    used_at INTEGER NOT NULL,
    UNIQUE (observed_key, digest)
  );

  -- What these paths said when the step of a record ran.
  CREATE TABLE observations (
    record TEXT NOT NULL REFERENCES records (key) ON DELETE CASCADE,
    path_set INTEGER NOT NULL REFERENCES path_sets (id) ON DELETE CASCADE,
    outline TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    parent_diffs TEXT NOT NULL,
    marks BLOB NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (record, path_set)
  );
  CREATE INDEX observations_outline ON observations (path_set, outline);
  CREATE TRIGGER observations_gone AFTER DELETE ON observations
    WHEN NOT EXISTS (SELECT 1 FROM observations WHERE path_set = OLD.path_set)
    BEGIN
      DELETE FROM path_sets WHERE id = OLD.path_set;
    END;
  `,
  `
  -- CRC-32 of what a record says of its result; older records have none.
  ALTER TABLE records ADD COLUMN checksum INTEGER;
  `,
  `
  -- The name of the stack of diffs that the paths were asked of; older observations do not know.
  ALTER TABLE observations ADD COLUMN stack TEXT;
  -- Holds all that is asked of the last used ones: a row's marks are long, and lie before its stack.
  CREATE INDEX observations_used ON observations (path_set, used_at, stack, fingerprint);
  `,
  `
  -- Listings are the text of cache/fact-list.ts from here on, zstd; a slot without one tells a little less of a miss.
  DELETE FROM listings;
  `,
];
