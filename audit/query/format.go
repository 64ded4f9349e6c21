package query

import (
	"strings"
	"time"
)

// Format returns the canonical text of a query: Parse gives the same tree again, with the times
// that it was read with. Actor and Sessions, which people cannot write, are left out with what
// negates them.
func Format(x Expr) string {
	switch x := x.(type) {
	case And:
		return join(x, " ")
	case Or:
		return join(x, " or ")
	case Not:
		if s := inner(x.X); s != "" {
			return "-" + s
		}
	case Field:
		return string(x.Name) + ":" + written(x.Value, x.Op)
	case Since:
		return fieldSince + ":" + x.At.UTC().Format(time.RFC3339Nano)
	case Until:
		return fieldUntil + ":" + x.At.UTC().Format(time.RFC3339Nano)
	case Text:
		return quote(x.Value)
	case Screen:
		return fieldScreen + ":" + quote(x.Value)
	}
	return ""
}

func join(parts []Expr, by string) string {
	var texts []string
	for _, x := range parts {
		if s := inner(x); s != "" {
			texts = append(texts, s)
		}
	}
	return strings.Join(texts, by)
}

// inner is Format in a place where And and Or need parentheses.
func inner(x Expr) string {
	s := Format(x)
	switch x.(type) {
	case And, Or:
		if s != "" {
			return "(" + s + ")"
		}
	}
	return s
}

// written is a value as it stands behind a name.
func written(v string, op Op) string {
	if v == "" && op != Prefix || strings.ContainsAny(v, breaks+"*~\\") {
		v = quote(v)
	}
	switch op {
	case Prefix:
		return v + "*"
	case Contains:
		return "~" + v
	}
	return v
}

// quote puts a text in double quotes.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
