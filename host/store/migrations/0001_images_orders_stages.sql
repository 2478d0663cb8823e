-- Images, orders, stages and what must outlive a process. UUIDs are text (readable with any SQLite
-- tool), times are milliseconds since 1970, JSON is text.

CREATE TABLE images (
    seq                         INTEGER PRIMARY KEY AUTOINCREMENT, -- age: lists are oldest first
    id                          TEXT NOT NULL UNIQUE,
    kind                        TEXT NOT NULL,
    parent                      TEXT,
    template                    TEXT,
    target                      TEXT,
    provider                    TEXT,   -- JSON: text or object, as sent
    credentials_name            TEXT,
    parameters                  TEXT,   -- JSON object, NULL = none sent
    properties                  TEXT NOT NULL,
    icicle                      TEXT,
    status                      TEXT NOT NULL,
    activity                    TEXT NOT NULL,
    error                       TEXT,
    error_code                  TEXT,
    percent_complete            INTEGER NOT NULL,
    identifier_on_provider      TEXT,
    provider_account_identifier TEXT,
    body_bytes                  INTEGER,
    body_sha256                 TEXT,
    body_format                 TEXT,
    content_key                 TEXT,   -- equal key = equal content: served by link, not built
    created_at                  INTEGER NOT NULL,
    finished_at                 INTEGER,
    attempt                     INTEGER NOT NULL
) STRICT;
CREATE INDEX images_by_kind ON images (kind, seq);
CREATE INDEX images_by_parent ON images (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX images_by_status ON images (kind, status, seq);
CREATE INDEX images_by_content ON images (content_key) WHERE content_key IS NOT NULL;

CREATE TABLE orders (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT NOT NULL UNIQUE,
    image_id         TEXT NOT NULL,
    kind             TEXT NOT NULL,
    callbacks        TEXT NOT NULL,     -- JSON array of URLs
    credentials      TEXT NOT NULL,     -- JSON: none, a name, or "sealed" (in the vault)
    local            INTEGER NOT NULL,  -- given at this machine: templates may name local files
    deletion         TEXT NOT NULL,     -- JSON: what a deletion was told
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    interruptions    INTEGER NOT NULL DEFAULT 0,
    owner            TEXT,              -- lock file of the process that works on it
    open             INTEGER NOT NULL DEFAULT 1,
    created_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX orders_open ON orders (seq) WHERE open = 1;
CREATE INDEX orders_by_image ON orders (image_id, seq);

CREATE TABLE stages (
    id          TEXT PRIMARY KEY,       -- the idempotency token at the provider
    order_id    TEXT NOT NULL,
    image_id    TEXT NOT NULL,
    step        TEXT NOT NULL,          -- place in the pipeline, unique in its order
    plugin_id   TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    failures    INTEGER NOT NULL DEFAULT 0, -- retryable plugin errors so far
    state       TEXT NOT NULL,          -- running, interrupted, succeeded, failed
    process     TEXT,                   -- JSON: pid, start time, boot id, cgroup of this attempt
    outcome     TEXT,                   -- JSON of what it brought back
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    UNIQUE (order_id, step)
) STRICT;
CREATE INDEX stages_by_image ON stages (image_id);

CREATE TABLE journal (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    stage_id    TEXT NOT NULL,
    token       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    event       TEXT NOT NULL,
    scratch     INTEGER NOT NULL,
    resource_id TEXT,
    details     TEXT
) STRICT;
CREATE INDEX journal_by_stage ON journal (stage_id, seq);

CREATE TABLE checkpoints (
    stage_id TEXT NOT NULL,
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (stage_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
    image_id   TEXT NOT NULL,
    name       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    PRIMARY KEY (image_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE callbacks (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    image_id TEXT NOT NULL,
    url      TEXT NOT NULL,
    document TEXT NOT NULL,             -- the body to PUT, as it was when the status changed
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX callbacks_in_order ON callbacks (image_id, url, seq);

CREATE TABLE nonces (
    consumer  TEXT NOT NULL,
    timestamp INTEGER NOT NULL,         -- seconds, as signed
    nonce     TEXT NOT NULL,
    PRIMARY KEY (consumer, nonce)
) STRICT, WITHOUT ROWID;

CREATE TABLE nonce_mark (               -- one row: accepted timestamps lie before it
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    mark    INTEGER NOT NULL,           -- seconds
    boot_id TEXT NOT NULL
) STRICT;

CREATE TABLE idempotency (
    client         TEXT NOT NULL,
    key            TEXT NOT NULL,
    request_sha256 TEXT NOT NULL,
    image_id       TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (client, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (             -- disk space promised to running stages
    stage_id TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
