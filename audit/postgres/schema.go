package postgres

import (
	"fmt"
	"strings"
)

// schemaVersion is that of the tables below; a database of another version is refused.
const schemaVersion = 2

// tables are checked at Open: one that is not logged would be empty after a crash.
var tables = [...]string{"events", "tree", "head", "writers", "log_version", "segments", "event_text", "rollup_user", "rollup_target", "rollup_full", "rollup_parts", "rollup_period"}

// schema holds the log's own tables, with the columns that they have in SQLite. Texts are compared
// by their bytes, as query.Query.Match does; NUL, which a text cannot hold here, is escaped (see
// escape). body and details are bytes, so that each survives.
//
// Each index but that of the ID ends in the event's index: what a search finds comes in the order
// of the log, and the first page of it costs as much as one row. Partial indexes leave out what is empty, for
// which nobody searches, and the outcomes that nearly every event has. time has none: segments tells in
// which part of the log a time is, as events are written about when they happen.
//
// tree holds the stored hashes of tlog (StoredHashIndex), backend.HashesPerChunk of them in a row, stored
// plainly: compression finds nothing in hashes. writers has the stamp of each process's last
// commit, so that the fate of one is known even where others have committed since.
const schema = `
CREATE TABLE IF NOT EXISTS events (
	idx        BIGINT PRIMARY KEY,
	id         TEXT COLLATE "C" NOT NULL,
	time       BIGINT NOT NULL,
	kind       TEXT COLLATE "C" NOT NULL,
	outcome    TEXT COLLATE "C" NOT NULL,
	actor_kind TEXT COLLATE "C" NOT NULL,
	iss        TEXT COLLATE "C" NOT NULL,
	sub        TEXT COLLATE "C" NOT NULL,
	email      TEXT COLLATE "C" NOT NULL,
	login_id   TEXT COLLATE "C" NOT NULL,
	session_id TEXT COLLATE "C" NOT NULL,
	action     TEXT COLLATE "C" NOT NULL,
	resource   TEXT COLLATE "C" NOT NULL,
	source     TEXT COLLATE "C" NOT NULL,
	node       TEXT COLLATE "C" NOT NULL,
	body       BYTEA NOT NULL,
	salt       BYTEA,
	details    BYTEA
);
CREATE UNIQUE INDEX IF NOT EXISTS events_id ON events (id);
CREATE INDEX IF NOT EXISTS events_kind ON events (kind, idx);
CREATE INDEX IF NOT EXISTS events_outcome ON events (outcome, idx) WHERE outcome NOT IN ('success', 'intent');
CREATE INDEX IF NOT EXISTS events_email ON events (email, idx) WHERE email <> '';
CREATE INDEX IF NOT EXISTS events_sub ON events (sub, idx) WHERE sub <> '';
CREATE INDEX IF NOT EXISTS events_login ON events (login_id, idx) WHERE login_id <> '';
CREATE INDEX IF NOT EXISTS events_session ON events (session_id, idx) WHERE session_id <> '';
CREATE INDEX IF NOT EXISTS events_action ON events (action, idx) WHERE action <> '';
CREATE INDEX IF NOT EXISTS events_resource ON events (resource, idx) WHERE resource <> '';
CREATE INDEX IF NOT EXISTS events_email_odd ON events (email, idx) WHERE email <> '' AND outcome NOT IN ('success', 'intent');
CREATE INDEX IF NOT EXISTS events_sub_odd ON events (sub, idx) WHERE sub <> '' AND outcome NOT IN ('success', 'intent');
CREATE INDEX IF NOT EXISTS events_resource_odd ON events (resource, idx) WHERE resource <> '' AND outcome NOT IN ('success', 'intent');
CREATE TABLE IF NOT EXISTS tree (
	chunk  BIGINT PRIMARY KEY,
	hashes BYTEA NOT NULL
);
ALTER TABLE tree ALTER hashes SET STORAGE PLAIN;
CREATE TABLE IF NOT EXISTS head (
	one        BIGINT PRIMARY KEY CHECK (one = 1),
	size       BIGINT NOT NULL,
	root       BYTEA NOT NULL,
	checkpoint BYTEA NOT NULL,
	stamp      BIGINT NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS writers (
	id    BIGINT PRIMARY KEY,
	stamp BIGINT NOT NULL,
	at    BIGINT NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS segments (
	segment  BIGINT PRIMARY KEY,
	min_time BIGINT NOT NULL,
	max_time BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS event_text (
	block BIGINT PRIMARY KEY,
	text  TEXT COLLATE "C"
);
ALTER TABLE event_text ALTER text SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS log_version (
	one     BIGINT PRIMARY KEY CHECK (one = 1),
	version BIGINT NOT NULL
);
`

// columns are the texts of events in the table's order, id first; time stands between id and kind.
var columns = [...]string{"id", "kind", "outcome", "actor_kind", "iss", "sub", "email", "login_id", "session_id", "action", "resource", "source", "node"}

const sqlRowList = `idx, id, time, kind, outcome, actor_kind, iss, sub, email, login_id, session_id, action, resource, source, node, body, salt, details`

// Statements of the committer.
var (
	sqlBegin = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`
	sqlLock  = `SELECT stamp, current_setting('fsync'), current_setting('full_page_writes') FROM head FOR UPDATE`
	sqlDup   = `SELECT id FROM events WHERE id = ANY($1::text[])`
	sqlHead  = `SELECT size, root, checkpoint, stamp FROM head`
	sqlSize  = `SELECT size FROM head`
	sqlChunk = `SELECT chunk, hashes FROM tree WHERE chunk = ANY($1::bigint[])`

	sqlInsert = `INSERT INTO events (idx, time, ` + strings.Join(columns[:], ", ") + `, body, salt, details)
		SELECT * FROM unnest($1::bigint[], $2::bigint[], ` + textArrays(3, len(columns)) + fmt.Sprintf(`, $%d::bytea[], $%d::bytea[], $%d::bytea[])`, len(columns)+3, len(columns)+4, len(columns)+5)
	sqlPutChunks = `INSERT INTO tree (chunk, hashes) SELECT * FROM unnest($1::bigint[], $2::bytea[])
		ON CONFLICT (chunk) DO UPDATE SET hashes = excluded.hashes`
	sqlPutHead = `UPDATE head SET size = $1, root = $2, checkpoint = $3, stamp = $4`
	sqlPutFate = `INSERT INTO writers (id, stamp, at) VALUES ($1, $2, extract(epoch FROM now())::bigint)
		ON CONFLICT (id) DO UPDATE SET stamp = excluded.stamp, at = excluded.at`
	sqlGetFate = `SELECT stamp FROM writers WHERE id = $1`
	// A month is far more than any process looks up a commit for.
	sqlOldFates   = `DELETE FROM writers WHERE at < extract(epoch FROM now()) - 30 * 86400`
	sqlPutSegment = `INSERT INTO segments (segment, min_time, max_time) VALUES ($1, $2, $3)`
	sqlPutPart    = `INSERT INTO rollup_parts (segment, ` + strings.Join(partColumns, ", ") + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	sqlCounted    = `SELECT time, kind, outcome, email, sub, resource FROM events WHERE idx >= $1 AND idx < $2 ORDER BY idx`
	sqlSegments   = `INSERT INTO segments (segment, min_time, max_time) SELECT idx / $2::bigint, min(time), max(time) FROM events WHERE idx < $1 GROUP BY 1`
)

// textArrays are n parameters of texts from a number on.
func textArrays(from, n int) string {
	params := make([]string, n)
	for i := range params {
		params[i] = fmt.Sprintf("$%d::text[]", from+i)
	}
	return strings.Join(params, ", ")
}
