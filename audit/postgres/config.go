package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sega/audit/store/backend"
)

// Config is what Open needs. It prints and logs without its URL, which may hold a password.
type Config struct {
	// URL is postgres://[user@]host[:port]/database with libpq's parameters: passfile, service,
	// sslmode, sslrootcert, target_session_attrs and so on. The password belongs in a passfile, never
	// in a configuration file. search_path names the schema of all tables, "sega" where it does not.
	URL string
	backend.Options

	foldParts int // segments whose rollups are folded into the cubes at once; 0: 32
}

// Format implements fmt.Formatter: no verb prints the URL.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "postgres.Config") }

// LogValue implements slog.LogValuer.
func (c Config) LogValue() slog.Value { return slog.StringValue("postgres.Config") }

// MarshalText implements encoding.TextMarshaler.
func (c Config) MarshalText() ([]byte, error) { return []byte("postgres.Config"), nil }

func (c *Config) check() error {
	if c.URL == "" {
		return errors.New("url is missing")
	}
	if c.foldParts == 0 {
		c.foldParts = foldParts
	}
	return backend.Settle(&c.Options)
}

// Times that a server may take. Those of the server free the head's lock where a broker was cut off
// in the middle of a transaction, so that others can go on.
const (
	connectTime = 5 * time.Second
	lockTime    = 10 * time.Second // another broker's transaction
	idleTime    = 10 * time.Second // of a transaction between two statements
	replyTime   = 20 * time.Second // of the server to the committer
	readTime    = 20 * time.Second // a statement over state or tree
	scanTime    = 5 * time.Minute  // a statement that searches or counts, over all of a large log perhaps
)

// target is where the database is.
type target struct {
	base   *pgx.ConnConfig
	schema string // of the tables
}

// dialFunc opens a network connection.
type dialFunc = pgconn.DialFunc

// parseURL reads a URL. What a parser says of one that it does not take may quote the password:
// nothing of it is in the error.
func parseURL(text string, dial dialFunc) (target, error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return target{}, errors.New("the url does not begin with postgres://")
	}
	c, err := pgx.ParseConfig(text)
	if err != nil {
		return target{}, errors.New("the url of the database, its service, its passfile or a certificate it names cannot be read; compare it with postgres://user@host:5432/database?sslmode=verify-full&passfile=/etc/sega/pgpass")
	}
	t := target{base: c, schema: "sega"}
	if path := c.RuntimeParams["search_path"]; path != "" {
		first, _, _ := strings.Cut(path, ",")
		t.schema = strings.Trim(strings.TrimSpace(first), `"`)
	}
	if t.schema == "" || strings.ContainsAny(t.schema, "\"$\x00") || strings.HasPrefix(t.schema, "pg_") {
		return target{}, errors.New("search_path names no schema that tables can be made in")
	}
	c.RuntimeParams["search_path"] = pgx.Identifier{t.schema}.Sanitize()
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "segad"
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTime
	}
	if c.ValidateConnect == nil && severalHosts(c) {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	c.DialFunc = dial
	if dial == nil {
		c.DialFunc = dialer
	}
	return t, nil
}

// severalHosts reports whether there is a choice of servers, of which one is the primary.
func severalHosts(c *pgx.ConnConfig) bool {
	for _, f := range c.Fallbacks {
		if f.Host != c.Host || f.Port != c.Port {
			return true
		}
	}
	return false
}

// dialer notices a dead network within half a minute.
func dialer(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	return d.DialContext(ctx, network, addr)
}

// with returns the configuration of a kind of connection. Timeouts that the URL names stay.
func (t target) with(params map[string]string) pgx.ConnConfig {
	c := t.base.Copy()
	for name, value := range params {
		if _, named := c.RuntimeParams[name]; !named || !strings.HasSuffix(name, "_timeout") {
			c.RuntimeParams[name] = value
		}
	}
	return *c
}

func millis(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

func (t target) forWriting() pgx.ConnConfig { return t.with(writing()) }

func writing() map[string]string {
	return map[string]string{"lock_timeout": millis(lockTime), "idle_in_transaction_session_timeout": millis(idleTime),
		"default_transaction_read_only": "off", "jit": "off"}
}

// forAppending is forWriting for the committer. Its statements find a few rows by a key. A plan that was
// made while a table was empty would read all of it, until somebody has analysed it.
func (t target) forAppending() pgx.ConnConfig {
	params := writing()
	params["enable_seqscan"] = "off"
	return t.with(params)
}

// forReading makes each plan for the values at hand, not for the average one: a search for a person
// with three events and for one with a million want different ones. Counts add groups up in memory,
// and on all cores: the planner expects far more groups to pass between processes than there are.
func (t target) forReading(statement time.Duration) pgx.ConnConfig {
	return t.with(map[string]string{"default_transaction_read_only": "on", "statement_timeout": millis(statement), "plan_cache_mode": "force_custom_plan", "jit": "off",
		"work_mem": "64MB", "parallel_tuple_cost": "0.01"})
}
