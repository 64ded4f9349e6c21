package postgres

import (
	"strconv"
	"strings"
)

// Translate turns DDL in SQLite's words into PostgreSQL's: INTEGER becomes BIGINT, BLOB becomes BYTEA,
// and the options STRICT and WITHOUT ROWID behind a table are left out. What stands in quotes or in comments is left as it is.
func Translate(ddl string) string {
	var out []string
	depth := 0
	for rest := ddl; rest != ""; {
		var t string
		t, rest = token(rest)
		switch upper := strings.ToUpper(t); {
		case t == "(":
			depth++
		case t == ")":
			depth--
		case upper == "INTEGER":
			t = "BIGINT"
		case upper == "BLOB":
			t = "BYTEA"
		case depth == 0 && upper == "STRICT":
			out = dropComma(out)
			continue
		case depth == 0 && upper == "WITHOUT":
			if option, after := word(rest); strings.EqualFold(option, "ROWID") {
				out, rest = dropComma(out), after
				continue
			}
		case depth == 0 && t == "," && optionNext(rest):
			continue
		}
		out = append(out, t)
	}
	return strings.Join(out, "")
}

// dropComma takes the comma before an option that is left out, and white space, away.
func dropComma(out []string) []string {
	n := len(out)
	for n > 0 && strings.TrimSpace(out[n-1]) == "" {
		n--
	}
	if n > 0 && out[n-1] == "," {
		n--
	}
	return out[:n]
}

// optionNext reports whether an option that is left out comes next.
func optionNext(s string) bool {
	option, s := word(s)
	rowid, _ := word(s)
	return strings.EqualFold(option, "STRICT") || strings.EqualFold(option+" "+rowid, "WITHOUT ROWID")
}

// word is token behind white space.
func word(s string) (first, rest string) {
	first, rest = token(s)
	if strings.TrimSpace(first) == "" && first != "" {
		return token(rest)
	}
	return first, rest
}

// placeholders turns ? into $1, $2 and so on, but in quotes and comments.
func placeholders(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	n := 0
	for rest := query; rest != ""; {
		var t string
		if t, rest = token(rest); t == "?" {
			n++
			t = "$" + strconv.Itoa(n)
		}
		b.WriteString(t)
	}
	return b.String()
}

// token cuts the first token off: something quoted, a comment, a word, white space, or one byte.
// What is not closed reaches to the end. Nothing is empty but of the empty text.
func token(s string) (first, rest string) {
	n := 1
	switch {
	case s == "":
		return "", ""
	case s[0] == '\'' || s[0] == '"':
		n = closing(s, 1, s[:1])
	case strings.HasPrefix(s, "--"):
		n = closing(s, 2, "\n")
	case strings.HasPrefix(s, "/*"):
		n = closing(s, 2, "*/")
	case wordByte(s[0]):
		for n < len(s) && wordByte(s[n]) {
			n++
		}
	case spaceByte(s[0]):
		for n < len(s) && spaceByte(s[n]) {
			n++
		}
	}
	return s[:n], s[n:]
}

// closing returns where the text ends that the next mark from a byte on closes.
func closing(s string, from int, mark string) int {
	if i := strings.Index(s[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(s)
}

func wordByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80
}

func spaceByte(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
