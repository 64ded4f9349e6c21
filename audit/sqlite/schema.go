package sqlite

// schemaVersion is PRAGMA user_version. A database of an older version is upgraded on opening, one
// of a newer version is refused.
const schemaVersion = 3

// segmentBits is the binary logarithm of a segment's events; the schema spells it out.
const segmentBits = 11

// schema holds the log's own tables. Partial indexes leave out what is empty: most events have no
// SSH session, and a search is never for the empty value. The outcomes that nobody searches for
// alone, because nearly every event has them, are left out too.
//
// Every search index begins with the event's segment (2,048 events). New entries then fall into the
// few pages of the last segment: a commit of 256 events of 256 people touches at most some 30 pages of an
// index, where without it each entry would dirty a page of its own, and writing pages is what the
// time goes to. A search looks into each segment instead of once: 2,442 times for 5 million events.
//
// The rollups' tables are in rollup.go. tree holds the stored hashes of tlog (StoredHashIndex), backend.HashesPerChunk of them in a row, so that
// a commit writes a few rows and not two for each event.
const schema = `
CREATE TABLE IF NOT EXISTS events (
	idx        INTEGER PRIMARY KEY,
	id         TEXT NOT NULL,
	time       INTEGER NOT NULL,
	kind       TEXT NOT NULL,
	outcome    TEXT NOT NULL,
	actor_kind TEXT NOT NULL,
	iss        TEXT NOT NULL,
	sub        TEXT NOT NULL,
	email      TEXT NOT NULL,
	login_id   TEXT NOT NULL,
	session_id TEXT NOT NULL,
	action     TEXT NOT NULL,
	resource   TEXT NOT NULL,
	source     TEXT NOT NULL,
	node       TEXT NOT NULL,
	body       TEXT NOT NULL,
	salt       BLOB,
	details    TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS events_id ON events (id);
CREATE INDEX IF NOT EXISTS events_time ON events (idx >> 11, time);
CREATE INDEX IF NOT EXISTS events_kind ON events (idx >> 11, kind) WHERE kind <> '';
CREATE INDEX IF NOT EXISTS events_email ON events (idx >> 11, email) WHERE email <> '';
CREATE INDEX IF NOT EXISTS events_sub ON events (idx >> 11, sub) WHERE sub <> '';
CREATE INDEX IF NOT EXISTS events_login ON events (idx >> 11, login_id) WHERE login_id <> '';
CREATE INDEX IF NOT EXISTS events_session ON events (idx >> 11, session_id) WHERE session_id <> '';
CREATE INDEX IF NOT EXISTS events_action ON events (idx >> 11, action) WHERE action <> '';
CREATE INDEX IF NOT EXISTS events_resource ON events (idx >> 11, resource) WHERE resource <> '';
CREATE INDEX IF NOT EXISTS events_outcome ON events (idx >> 11, outcome) WHERE outcome NOT IN ('success', 'intent');
CREATE TABLE IF NOT EXISTS tree (
	chunk  INTEGER PRIMARY KEY,
	hashes BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS head (
	one        INTEGER PRIMARY KEY CHECK (one = 1),
	size       INTEGER NOT NULL,
	root       BLOB NOT NULL,
	checkpoint BLOB NOT NULL,
	stamp      INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS rolling (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	done INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO rolling VALUES (1, -1);
`

const (
	sqlInsertEvent = `INSERT INTO events (idx, id, time, kind, outcome, actor_kind, iss, sub, email,
		login_id, session_id, action, resource, source, node, body, salt, details)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	sqlPutChunk = `INSERT INTO tree (chunk, hashes) VALUES (?, ?)
		ON CONFLICT (chunk) DO UPDATE SET hashes = excluded.hashes`
	sqlPutHead = `INSERT INTO head (one, size, root, checkpoint, stamp) VALUES (1, ?, ?, ?, ?)
		ON CONFLICT (one) DO UPDATE SET size = excluded.size, root = excluded.root,
		checkpoint = excluded.checkpoint, stamp = excluded.stamp`
	sqlGetHead    = `SELECT size, root, checkpoint, stamp FROM head`
	sqlGetStamp   = `SELECT stamp FROM head`
	sqlGetChunk   = `SELECT hashes FROM tree WHERE chunk = ?`
	sqlGetRolling = `SELECT done FROM rolling`
	sqlPutRolling = `UPDATE rolling SET done = ?`
	sqlRowList    = `idx, id, time, kind, outcome, actor_kind, iss, sub, email,
		login_id, session_id, action, resource, source, node, body, salt, details`
)
