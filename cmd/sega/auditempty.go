package main

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"sega/audit"
	"sega/audit/query"
	"sega/broker/api"
)

const noEvent = "sega: no event matches"

// nothing says beside an empty answer that it is one, and which terms may be a mistake of typing:
// else a kind that does not exist looks like something that did not happen.
func (a *app) nothing(q url.Values) {
	fmt.Fprintln(a.err, noEvent)
	x, err := query.Parse(q.Get(api.ParamQuery), a.now())
	if err != nil {
		return // it was sent, and answered
	}
	var said []string
	for _, h := range hints(x) {
		if !slices.Contains(said, h) {
			said = append(said, h)
			fmt.Fprintf(a.err, "  %s\n", escapeLine(h))
		}
	}
}

// hints are what the terms of a query that selected nothing may have meant. What is negated leaves
// nothing out that was meant.
func hints(x query.Expr) (all []string) {
	switch x := x.(type) {
	case query.And:
		for _, part := range x {
			all = append(all, hints(part)...)
		}
	case query.Or:
		for _, part := range x {
			all = append(all, hints(part)...)
		}
	case query.Text:
		if f, ok := meant(x.Value); ok {
			all = append(all, fmt.Sprintf("%s was looked for in reasons, tickets and commands; did you mean %s", query.Format(x), query.Format(f)))
		}
	case query.Field:
		if x.Name == query.User && x.Op == query.Equal && !strings.Contains(x.Value, "@") {
			all = append(all, fmt.Sprintf("%s is a whole e-mail or subject; did you mean %s or %s", query.Format(x),
				query.Format(query.Field{Name: query.User, Op: query.Prefix, Value: x.Value}), query.Format(query.Field{Name: query.User, Op: query.Contains, Value: x.Value})))
		}
		if x.Name == query.Kind && !slices.ContainsFunc(audit.Kinds(), func(k string) bool { return x.Match(audit.Event{Kind: k}) }) {
			all = append(all, kindHint(x))
		}
	}
	return all
}

// meant is the field that a bare word has the form of.
func meant(word string) (query.Field, bool) {
	local, domain, isMail := strings.Cut(word, "@")
	switch {
	case strings.ContainsAny(word, " \t\n"):
	case strings.HasPrefix(word, api.IDSSH), strings.HasPrefix(word, api.IDLogin):
		return query.Field{Name: query.Session, Value: word}, true
	case isMail && local != "" && strings.Contains(domain, "."):
		return query.Field{Name: query.User, Value: word}, true
	}
	return query.Field{}, false
}

// kindHint names the kinds that are nearest to one that is none.
func kindHint(x query.Field) string {
	near := nearestKinds(strings.ToLower(x.Value))
	if len(near) == 0 {
		return fmt.Sprintf("%s is of no kind that there is; those of this log: sega audit query --count-by kind", query.Format(x))
	}
	return fmt.Sprintf("%s is of no kind that there is; the nearest: %s", query.Format(x), strings.Join(near, ", "))
}

// Bounds of what is nearest.
const (
	nearestLimit = 3
	kindLimit    = 64 // bytes; no kind is as long
)

// nearestKinds returns those of a noun, or the kinds that contain a text or differ from it in a
// letter of four, the nearest first.
func nearestKinds(text string) []string {
	if text == "" || len(text) > kindLimit {
		return nil
	}
	if slices.ContainsFunc(audit.Kinds(), func(k string) bool { return strings.HasPrefix(k, text+".") }) {
		return []string{text + ".*"}
	}
	near := slices.DeleteFunc(audit.Kinds(), func(k string) bool {
		return !strings.Contains(k, text) && distance(text, k) > max(1, len(text)/4)
	})
	slices.SortStableFunc(near, func(a, b string) int { return cmp.Compare(distance(text, a), distance(text, b)) })
	return near[:min(len(near), nearestLimit)]
}

// distance is how many bytes must be put in, taken out or replaced to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(last+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
