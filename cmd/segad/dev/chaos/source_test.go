//go:build linux

package chaos

import (
	"database/sql"
	"net/url"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // reads the broker's database, as an auditor with a shell would
	_ "modernc.org/sqlite"             // and so does this

	"sega/audit/postgres/pgtest"
)

// source is a broker's database as a stranger opens it: to read.
type source struct{ driver, dsn string }

func (s source) open() (*sql.DB, error) { return sql.Open(s.driver, s.dsn) }

func sqliteFile(path string) source {
	return source{"sqlite", "file:" + path + "?mode=ro&_pragma=busy_timeout(5000)"}
}

// source is the database that the rig's broker has now.
func (r *rig) source() source {
	if strings.HasPrefix(r.file.Database, "postgres:") {
		return r.server
	}
	return sqliteFile(r.file.Database)
}

// onPostgres gives the rig's broker a new database of a server.
func onPostgres(server *pgtest.Server) func(*rig) {
	return func(r *rig) {
		whole, err := url.Parse(server.URL(server.NewDatabase(r.t)))
		if err != nil {
			r.t.Fatal(err)
		}
		password, _ := whole.User.Password()
		q := whole.Query()
		q.Set("search_path", "sega")
		reading := *whole
		reading.RawQuery = q.Encode()
		r.server = source{"pgx", reading.String()}
		whole.User = url.User(whole.User.Username())
		r.file.Database, r.file.DatabasePasswordFile = whole.String(), r.path("database.password")
		writeFile(r.t, r.file.DatabasePasswordFile, []byte(password+"\n"))
	}
}
