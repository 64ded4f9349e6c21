package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"sega/keychain/secret"
)

// Database is where log and state live: in a file of SQLite or in PostgreSQL. Exactly one is set.
type Database struct {
	SQLite   string // path
	Postgres string // URL, without a password
}

// String is the database as it may be written into a configuration and shown to people.
func (d Database) String() string {
	if d.Postgres != "" {
		return d.Postgres
	}
	return "sqlite:" + d.SQLite
}

// ParseDatabase reads the value of the key `database`: the path of a SQLite file, relative to that of the
// configuration, sqlite:PATH, or a URL of PostgreSQL (libpq's "Connection URIs"). A URL that carries a password is refused, and so
// is one that would cross a network without TLS (rule 5). Errors quote nothing of the value.
func ParseDatabase(file, value string) (Database, error) {
	if value == "" {
		return Database{}, errors.New("database: no path and no URL configured")
	}
	scheme, rest, ok := strings.Cut(value, ":")
	switch {
	case ok && scheme == "sqlite" && rest != "":
		return Database{SQLite: Path(file, rest)}, nil
	case ok && (scheme == "postgres" || scheme == "postgresql"):
		return Database{Postgres: value}, checkPostgres(value)
	case strings.Contains(value, "://"), strings.Contains(value, "password="), scheme == "sqlite" && ok:
		return Database{}, errors.New("database: neither a path, sqlite:PATH nor postgres://USER@HOST/DATABASE?sslmode=verify-full")
	}
	return Database{SQLite: Path(file, value)}, nil
}

// checkPostgres asks pgx what it would do: what its defaults, environment and service files add counts too.
func checkPostgres(value string) error {
	u, err := url.Parse(value)
	if err != nil {
		return errors.New("database: the URL of PostgreSQL cannot be parsed")
	}
	_, inUser := u.User.Password()
	if inUser || u.Query().Has("password") || u.Query().Has("sslpassword") {
		return errors.New("database: a password stands in the URL\nput it into a file of mode 0600 and name that in database_password, or use a passfile or a service file of PostgreSQL")
	}
	c, err := pgconn.ParseConfig(value)
	if err != nil {
		return errors.New("database: the URL of PostgreSQL is not valid, or names files that cannot be read")
	}
	ways := append([]*pgconn.FallbackConfig{{Host: c.Host, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	for _, way := range ways {
		if way.TLSConfig == nil && !local(way.Host) {
			return errors.New("database: PostgreSQL on another machine would be talked to without TLS\nset sslmode=verify-full (and sslrootcert=FILE) in the URL")
		}
	}
	return nil
}

// local reports whether a connection to a host leaves no machine: a Unix socket or loopback.
func local(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// URL is the URL of PostgreSQL with a password, for the driver alone.
func (d Database) URL(password secret.Secret) (secret.Secret, error) {
	if password.Empty() {
		return secret.FromString(d.Postgres), nil
	}
	u, err := url.Parse(d.Postgres)
	if err != nil {
		return secret.Secret{}, errors.New("database: the URL of PostgreSQL cannot be parsed")
	}
	name := u.User.Username()
	if name == "" {
		return secret.Secret{}, errors.New("database: a password is configured, and no user stands in the URL")
	}
	u.User = url.UserPassword(name, string(password.Reveal()))
	return secret.FromString(u.String()), nil
}

// MarkFile is the path that the newest checkpoint is noted at, outside of the database: beside the configuration
// where none is configured.
func (b Broker) MarkFile(file string) string {
	if b.Mark == "" {
		return file + ".mark"
	}
	return Path(file, b.Mark)
}

// KeysFile is the path of what is known of the CAs' keys, beside the mark.
func (b Broker) KeysFile(file string) string { return b.MarkFile(file) + ".keys" }

// RevokedFile is the path of what stands revoked, beside the mark.
func (b Broker) RevokedFile(file string) string { return b.MarkFile(file) + ".revoked" }

// DatabasePassword reads the password's file of a broker's configuration; it is empty where none is configured.
func (b Broker) DatabasePassword(file string) (secret.Secret, error) {
	if b.DatabasePasswordFile == "" {
		return secret.Secret{}, nil
	}
	s, err := Secret(Path(file, b.DatabasePasswordFile))
	if err != nil {
		return secret.Secret{}, fmt.Errorf("database_password: %w", err)
	}
	return s, nil
}
