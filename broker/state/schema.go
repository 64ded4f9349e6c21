package state

import "strconv"

// Version is that of the tables below. Whoever changes them raises it, and adds at the end of Schema
// what brings the tables of the version before up to date, as statements that may run again.
//
// Databases of issue 2 have no version and count as 1.
const Version = 5

// Schema makes the tables, or brings older ones up to date: statements that may run again, in the
// SQL that SQLite and PostgreSQL share, with SQLite's types. A backend runs all of them in one
// transaction whenever it opens. A newer database is refused by the second one, before anything was
// changed: the name of the constraint that it breaks is what the operator reads.
var Schema = []string{
	`CREATE TABLE IF NOT EXISTS state_version (one INTEGER PRIMARY KEY, version INTEGER NOT NULL,
		CONSTRAINT state_is_of_a_newer_segad_run_that_one CHECK (version > 0)) STRICT`,
	`INSERT INTO state_version (one, version) VALUES (1, ` + strconv.Itoa(Version) + `)
		ON CONFLICT (one) DO UPDATE SET version=CASE WHEN state_version.version>excluded.version THEN -1 ELSE excluded.version END`,
	`CREATE TABLE IF NOT EXISTS serials (ca TEXT PRIMARY KEY, era INTEGER NOT NULL, next INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS subjects (
		iss TEXT NOT NULL, sub TEXT NOT NULL, email TEXT NOT NULL, name TEXT NOT NULL,
		epoch INTEGER NOT NULL, blocked INTEGER NOT NULL, blocked_iss TEXT NOT NULL, blocked_sub TEXT NOT NULL,
		blocked_reason TEXT NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (iss, sub)) STRICT`,
	`CREATE INDEX IF NOT EXISTS subjects_email ON subjects (email)`,
	`CREATE TABLE IF NOT EXISTS sessions (
		id TEXT PRIMARY KEY, kind TEXT NOT NULL, token_hash BLOB NOT NULL UNIQUE, thumbprint TEXT NOT NULL,
		iss TEXT NOT NULL, sub TEXT NOT NULL, email TEXT NOT NULL, name TEXT NOT NULL, groups TEXT NOT NULL,
		method TEXT NOT NULL, mfa INTEGER NOT NULL, auth_time INTEGER NOT NULL, nonce TEXT NOT NULL,
		source TEXT NOT NULL, client TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, not_after INTEGER NOT NULL,
		epoch INTEGER NOT NULL, rev INTEGER NOT NULL, ended INTEGER NOT NULL, ended_why TEXT NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS sessions_subject ON sessions (iss, sub)`,
	`CREATE TABLE IF NOT EXISTS certs (
		profile TEXT NOT NULL, serial TEXT NOT NULL, login_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL,
		epoch INTEGER NOT NULL, rev INTEGER NOT NULL, fingerprint TEXT NOT NULL, digest TEXT NOT NULL, valid_before INTEGER NOT NULL,
		reason TEXT NOT NULL, ticket TEXT NOT NULL,
		PRIMARY KEY (profile, serial)) STRICT`,
	`CREATE INDEX IF NOT EXISTS certs_subject ON certs (iss, sub, valid_before)`,
	`CREATE INDEX IF NOT EXISTS certs_expiry ON certs (valid_before)`,
	`CREATE TABLE IF NOT EXISTS grants (
		access_key_id TEXT PRIMARY KEY, role TEXT NOT NULL, login_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL,
		epoch INTEGER NOT NULL, rev INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS grants_subject ON grants (iss, sub, expires)`,
	`CREATE TABLE IF NOT EXISTS ssh_sessions (
		id TEXT PRIMARY KEY, login_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL, email TEXT NOT NULL,
		host TEXT NOT NULL, login TEXT NOT NULL, source TEXT NOT NULL, node TEXT NOT NULL, started INTEGER NOT NULL,
		not_after INTEGER NOT NULL, epoch INTEGER NOT NULL, rev INTEGER NOT NULL, state TEXT NOT NULL,
		reason TEXT NOT NULL, ticket TEXT NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS ssh_sessions_subject ON ssh_sessions (iss, sub)`,
	`CREATE INDEX IF NOT EXISTS ssh_sessions_state ON ssh_sessions (state)`,
	`CREATE TABLE IF NOT EXISTS revocations (
		idx INTEGER PRIMARY KEY, event_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL,
		login_id TEXT NOT NULL, session_id TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS id_tokens (digest TEXT PRIMARY KEY, expires INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS id_tokens_expiry ON id_tokens (expires)`,
	`CREATE TABLE IF NOT EXISTS machines (
		id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, thumbprint TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS join_tokens (
		hash BLOB PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS intents (action TEXT PRIMARY KEY, node TEXT NOT NULL, body BLOB NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS probe (one INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS marks (size INTEGER NOT NULL, root TEXT NOT NULL, PRIMARY KEY (size, root)) STRICT`,
	`CREATE TABLE IF NOT EXISTS followers (
		machine TEXT PRIMARY KEY, name TEXT NOT NULL, node TEXT NOT NULL, acked INTEGER NOT NULL, closed INTEGER NOT NULL,
		acked_at INTEGER NOT NULL, lease INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS taken_reports (id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS taken_reports_time ON taken_reports (at)`,

	// Of version 1: reports had no time, so none could be forgotten.
	`CREATE TABLE IF NOT EXISTS reports (id TEXT PRIMARY KEY) STRICT`,
	`INSERT INTO taken_reports (id, at) SELECT id, 0 FROM reports WHERE id<>'' ON CONFLICT DO NOTHING`,
	`DROP TABLE reports`,

	// Of version 2: what labels a session's host had was not kept. '' waits for SettleSSHLabels. A table
	// of its own, for SQLite adds no column to a table twice without an error.
	`CREATE TABLE IF NOT EXISTS ssh_labels (id TEXT PRIMARY KEY, labels TEXT NOT NULL) STRICT`,
	`INSERT INTO ssh_labels (id, labels) SELECT id, '' FROM ssh_sessions AS s
		WHERE NOT EXISTS (SELECT 1 FROM ssh_labels AS l WHERE l.id=s.id) ON CONFLICT DO NOTHING`,

	// Of version 3: every grant was of a role that the broker had assumed itself, narrowed by nothing. That
	// is what a grant without a row here is.
	`CREATE TABLE IF NOT EXISTS grant_terms (
		key_id TEXT PRIMARY KEY, through TEXT NOT NULL, read_only INTEGER NOT NULL, narrowed INTEGER NOT NULL, console INTEGER NOT NULL) STRICT`,

	// Of version 4: bastions did not ask for channels, and nobody looked a revocation up by its session.
	`CREATE TABLE IF NOT EXISTS channel_answers (id TEXT PRIMARY KEY, digest BLOB NOT NULL, answer BLOB NOT NULL, at INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS channel_answers_time ON channel_answers (at)`,
	`CREATE INDEX IF NOT EXISTS revocations_session ON revocations (session_id)`,
	// Of version 4: the CAs' keys were what each broker's configuration named. The first start adopts them.
	`CREATE TABLE IF NOT EXISTS ca_trust (one INTEGER PRIMARY KEY, version INTEGER NOT NULL) STRICT`,
	`INSERT INTO ca_trust (one, version) VALUES (1, 0) ON CONFLICT DO NOTHING`,
	`CREATE TABLE IF NOT EXISTS ca_keys (
		key TEXT PRIMARY KEY, ca TEXT NOT NULL, phase TEXT NOT NULL, version INTEGER NOT NULL,
		published INTEGER NOT NULL, replaced INTEGER NOT NULL, until INTEGER NOT NULL, retired INTEGER NOT NULL) STRICT`,
	`CREATE UNIQUE INDEX IF NOT EXISTS ca_keys_one ON ca_keys (ca, phase) WHERE phase IN ('next', 'current', 'old')`,
	`CREATE TABLE IF NOT EXISTS trust_seen (
		machine TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL) STRICT`,
	// Of version 4: no certificate and no host could be revoked. What certificates a session was opened with, and whose
	// names a certificate has, is known of those that come.
	`CREATE TABLE IF NOT EXISTS revoked_subjects (idx INTEGER PRIMARY KEY, profile TEXT NOT NULL, serial TEXT NOT NULL, host TEXT NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS revoked_certs (
		profile TEXT NOT NULL, serial TEXT NOT NULL, named INTEGER NOT NULL, valid_before INTEGER NOT NULL, idx INTEGER NOT NULL,
		reason TEXT NOT NULL, PRIMARY KEY (profile, serial)) STRICT`,
	`CREATE INDEX IF NOT EXISTS revoked_certs_expiry ON revoked_certs (valid_before)`,
	`CREATE INDEX IF NOT EXISTS revoked_certs_named ON revoked_certs (named, profile)`,
	`CREATE TABLE IF NOT EXISTS cert_names (
		name TEXT NOT NULL, profile TEXT NOT NULL, serial TEXT NOT NULL, valid_before INTEGER NOT NULL, PRIMARY KEY (name, profile, serial)) STRICT`,
	`CREATE INDEX IF NOT EXISTS cert_names_serial ON cert_names (profile, serial)`,
	`CREATE INDEX IF NOT EXISTS cert_names_expiry ON cert_names (valid_before)`,
	`CREATE TABLE IF NOT EXISTS blocked_hosts (
		host TEXT PRIMARY KEY, idx INTEGER NOT NULL, blocked_iss TEXT NOT NULL, blocked_sub TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS ssh_certs (id TEXT PRIMARY KEY, access TEXT NOT NULL, hop TEXT NOT NULL, host TEXT NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS ssh_certs_access ON ssh_certs (access)`,
	`CREATE INDEX IF NOT EXISTS ssh_certs_hop ON ssh_certs (hop)`,
	`CREATE INDEX IF NOT EXISTS ssh_certs_host ON ssh_certs (host)`,
	`CREATE TABLE IF NOT EXISTS krl (
		one INTEGER PRIMARY KEY, changes INTEGER NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, generated INTEGER NOT NULL) STRICT`,
	// Of version 4: nobody had registered a key, and no certificate was of a key known to be FIDO2's.
	`CREATE TABLE IF NOT EXISTS person_keys (
		fingerprint TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, iss TEXT NOT NULL, sub TEXT NOT NULL, name TEXT NOT NULL,
		public_key TEXT NOT NULL, hardware INTEGER NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS person_keys_moved (one INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS cert_keys (
		profile TEXT NOT NULL, serial TEXT NOT NULL, verified INTEGER NOT NULL, PRIMARY KEY (profile, serial)) STRICT`,
	`CREATE TABLE IF NOT EXISTS ssh_keys (id TEXT PRIMARY KEY, verified INTEGER NOT NULL) STRICT`,
	// Of version 4: no host enrolled, and every sshd knew certificates.
	`CREATE TABLE IF NOT EXISTS hosts (
		name TEXT PRIMARY KEY, machine TEXT NOT NULL UNIQUE, terms TEXT NOT NULL, host_keys TEXT NOT NULL, method TEXT NOT NULL, enrolled INTEGER NOT NULL,
		seen INTEGER NOT NULL, trust INTEGER NOT NULL, krl INTEGER NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS host_terms (hash BLOB PRIMARY KEY, terms TEXT NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS enrolled_instances (instance TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS hop_keys (
		fingerprint TEXT PRIMARY KEY, line TEXT NOT NULL, host TEXT NOT NULL, login TEXT NOT NULL, session_id TEXT NOT NULL, sources TEXT NOT NULL, options TEXT NOT NULL, expires INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS hop_keys_host ON hop_keys (host, login, expires)`,
	`CREATE INDEX IF NOT EXISTS ssh_sessions_host ON ssh_sessions (host, started)`,
	// Of version 4: nothing counted the sessions that are open.
	`CREATE INDEX IF NOT EXISTS ssh_sessions_open ON ssh_sessions (iss, sub) WHERE state<>'ended'`,
	`CREATE INDEX IF NOT EXISTS ssh_sessions_open_host ON ssh_sessions (host) WHERE state<>'ended'`,
	// Of version 4: an account name was whoever's e-mail made it up.
	`CREATE TABLE IF NOT EXISTS account_names (
		login TEXT PRIMARY KEY, iss TEXT NOT NULL, sub TEXT NOT NULL, at INTEGER NOT NULL, UNIQUE (iss, sub)) STRICT`,
	// Of version 4: a certificate that was used twice was found where both logins were asked about at once, and each login past a
	// bastion was an event.
	`CREATE TABLE IF NOT EXISTS host_logins (session_id TEXT PRIMARY KEY, connection TEXT NOT NULL, at INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS host_logins_time ON host_logins (at)`,
	`CREATE TABLE IF NOT EXISTS host_bypasses (host TEXT PRIMARY KEY, since INTEGER NOT NULL, events INTEGER NOT NULL, left_out INTEGER NOT NULL) STRICT`,
	// Of version 4: how long certificates of a key may live was what each broker's configuration said last.
	`CREATE TABLE IF NOT EXISTS ca_lives (key TEXT PRIMARY KEY, life INTEGER NOT NULL) STRICT`,
	// Of version 4: nobody asked who is blocked.
	`CREATE INDEX IF NOT EXISTS subjects_blocked ON subjects (iss, sub) WHERE blocked<>0`,
	// Of version 4: a login past a bastion that was left out was counted at each question.
	`CREATE TABLE IF NOT EXISTS host_left_out (host TEXT NOT NULL, line TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (host, line)) STRICT`,
	`CREATE INDEX IF NOT EXISTS host_left_out_time ON host_left_out (at)`,
}
