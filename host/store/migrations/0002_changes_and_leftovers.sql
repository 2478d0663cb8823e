-- Every change of an image, for those who follow the store from another process: the event stream,
-- and answers that are kept rendered. Only the last ones are kept.
CREATE TABLE changes (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    image_id       TEXT NOT NULL,
    parent         TEXT,
    kind           TEXT NOT NULL,
    status_changed INTEGER NOT NULL,
    document       TEXT                 -- JSON fields without template and ICICLE; NULL = nobody's news
) STRICT;

-- Lists are read from the index alone: rows hold templates, and are many pages.
DROP INDEX images_by_kind;
CREATE INDEX images_listed ON images (kind, seq, id);

-- For an order that imports a file: its format.
ALTER TABLE orders ADD COLUMN import_format TEXT;

-- What a failed cleanup left outside, tried again until it is gone or given up.
CREATE TABLE leftovers (
    id         TEXT PRIMARY KEY,        -- the order that tries to remove it
    image_id   TEXT NOT NULL,           -- for whom it was made; may be gone
    stage_id   TEXT NOT NULL,           -- whose journal names it; the token at the provider
    step       TEXT NOT NULL,
    plugin_id  TEXT NOT NULL,
    target     TEXT,
    provider   TEXT,                    -- JSON: text or object, as sent
    parameters TEXT,                    -- JSON object
    scratch    INTEGER NOT NULL,        -- 1: helpers only; the product stays
    tries      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    error      TEXT NOT NULL,           -- of the last try
    given_up   INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX leftovers_by_stage ON leftovers (stage_id);
