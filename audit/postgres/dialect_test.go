package postgres

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTranslate(t *testing.T) {
	for _, c := range []struct{ name, ddl, want string }{
		{"types", `CREATE TABLE a (n INTEGER PRIMARY KEY, t TEXT, b blob NOT NULL)`, `CREATE TABLE a (n BIGINT PRIMARY KEY, t TEXT, b BYTEA NOT NULL)`},
		{"strict", "CREATE TABLE a (n INTEGER) STRICT", "CREATE TABLE a (n BIGINT)"},
		{"both options", `CREATE TABLE a (n INTEGER) STRICT, WITHOUT ROWID;`, `CREATE TABLE a (n BIGINT);`},
		{"other order", "CREATE TABLE a (n INTEGER)\n  WITHOUT ROWID ,\tSTRICT", "CREATE TABLE a (n BIGINT)"},
		{"several statements", `CREATE TABLE a (n TEXT) STRICT; CREATE INDEX i ON a (n)`, `CREATE TABLE a (n TEXT); CREATE INDEX i ON a (n)`},
		{"quotes", `INSERT INTO a VALUES ('INTEGER ''BLOB'), ("STRICT")`, `INSERT INTO a VALUES ('INTEGER ''BLOB'), ("STRICT")`},
		{"comments", "-- INTEGER\nCREATE /* BLOB */ TABLE a (n INTEGER)", "-- INTEGER\nCREATE /* BLOB */ TABLE a (n BIGINT)"},
		{"words around", `CREATE TABLE integers (blob_id TEXT, strict TEXT)`, `CREATE TABLE integers (blob_id TEXT, strict TEXT)`},
		{"commas of a statement", `INSERT INTO a VALUES (1) ON CONFLICT (n) DO UPDATE SET n = 1, m = 2`, `INSERT INTO a VALUES (1) ON CONFLICT (n) DO UPDATE SET n = 1, m = 2`},
		{"another option", `CREATE VIEW v AS SELECT 1, without`, `CREATE VIEW v AS SELECT 1, without`},
		{"empty", ``, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Translate(c.ddl); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPlaceholders(t *testing.T) {
	for _, c := range []struct{ name, query, want string }{
		{"several", `SELECT ? WHERE a = ? AND b IN (?,?)`, `SELECT $1 WHERE a = $2 AND b IN ($3,$4)`},
		{"more than nine", strings.Repeat("?", 11), `$1$2$3$4$5$6$7$8$9$10$11`},
		{"quotes", `SELECT '?', 'it''s ?', "a?", ?`, `SELECT '?', 'it''s ?', "a?", $1`},
		{"comments", "SELECT ? -- ?\n, /* ? */ ?", "SELECT $1 -- ?\n, /* ? */ $2"},
		{"division and minus", `SELECT ?/?-?`, `SELECT $1/$2-$3`},
		{"not closed", `SELECT ?, '?`, `SELECT $1, '?`},
		{"none", `SELECT 'x'`, `SELECT 'x'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := placeholders(c.query); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// tokens cuts a text into all its tokens.
func tokens(s string) (all []string) {
	for s != "" {
		var t string
		t, s = token(s)
		all = append(all, t)
	}
	return all
}

func FuzzPlaceholders(f *testing.F) {
	for _, s := range []string{"", "?", "a=? and b='?'", "'?''?'?", "--?\n?", "/*?*/?", `"?`, "$1 ?", "?\x00é?", "/?*?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all := tokens(s)
		if strings.Join(all, "") != s {
			t.Fatalf("tokens %q are not %q", all, s)
		}
		got, n := placeholders(s), 0
		for _, tok := range all {
			if tok == "" {
				t.Fatal("an empty token")
			}
			if tok == "?" {
				n++
			}
		}
		for ; n > 0; n-- { // from the last on: $1 is the beginning of $10
			if !strings.Contains(got, "$"+strconv.Itoa(n)) {
				t.Fatalf("%q has no placeholder %d", got, n)
			}
		}
		gone, added := strings.Count(s, "?")-strings.Count(got, "?"), strings.Count(got, "$")-strings.Count(s, "$")
		if gone != added {
			t.Errorf("%q became %q: %d marks are gone, %d placeholders were added", s, got, gone, added)
		}
	})
}

func FuzzTranslate(f *testing.F) {
	for _, s := range []string{"", "CREATE TABLE a (n INTEGER) STRICT, WITHOUT ROWID", "'INTEGER'", "(BLOB)", ") STRICT,", "WITHOUT", ", , STRICT", "-STRICT-", "INTEGER--\nBLOB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Translate(s)
		for _, tok := range tokens(s) {
			if (tok[0] == '\'' || tok[0] == '"' || strings.HasPrefix(tok, "--") || strings.HasPrefix(tok, "/*")) && !strings.Contains(got, tok) {
				t.Errorf("%q lost %q and became %q", s, tok, got)
			}
		}
		if strings.Count(got, "(") != strings.Count(s, "(") || strings.Count(got, ";") != strings.Count(s, ";") {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", "\x00", "\x01", "a\x00b\x01c", "\x010", "\x011\x00", "é\x00", "\x01"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		stored := escape(a)
		if strings.Contains(stored, "\x00") {
			t.Errorf("%q is stored as %q", a, stored)
		}
		if got, ok := unescape(stored); !ok || got != a {
			t.Errorf("%q became %q, %v", a, got, ok)
		}
		if utf8.ValidString(a) != utf8.ValidString(stored) {
			t.Errorf("%q is stored as %q", a, stored)
		}
		if strings.HasPrefix(a, b) != strings.HasPrefix(stored, escape(b)) || strings.Contains(a, b) != strings.Contains(stored, escape(b)) && strings.Contains(a, b) {
			t.Errorf("%q in %q is not what %q in %q is", b, a, escape(b), stored)
		}
		if plain, ok := unescape(b); ok && escape(plain) != b {
			t.Errorf("%q and %q are read as one", b, escape(plain))
		}
	})
}
