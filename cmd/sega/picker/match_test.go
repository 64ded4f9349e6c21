package picker

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// TestMatch finds a word in a name: at which runes, or not at all.
func TestMatch(t *testing.T) {
	for name, c := range map[string]struct {
		word, in string
		want     string // the text with what was found in brackets; "" where nothing is
	}{
		"whole":               {"prod", "prod", "[prod]"},
		"beginning":           {"dev", "dev-admin", "[dev]-admin"},
		"later word":          {"admin", "a-dev-admin", "a-dev-[admin]"},
		"scattered":           {"dva", "dev-admin", "[d]e[v]-[a]dmin"},
		"beginnings of words": {"pr", "prod-readonly", "[pr]od-readonly"},
		"order counts":        {"ved", "dev-one", ""},
		"more than there is":  {"devv", "dev", ""},
		"small finds capital": {"dev", "DEV-Admin", "[DEV]-Admin"},
		"capital is itself":   {"A", "dev-admin", ""},
		"capital in its case": {"aA", "a-dev-Admin", "[a]-dev-[A]dmin"},
		"digits":              {"12", "role-12", "role-[12]"},
		"wide":                {"本", "日本-語", "日[本]-語"},
	} {
		t.Run(name, func(t *testing.T) {
			at, _, ok := newText(c.in, true, 0).match([]rune(c.word))
			if got := bracketed(c.in, at); ok != (c.want != "") || ok && got != c.want {
				t.Errorf("got %q, %v; want %q", got, ok, c.want)
			}
		})
	}
}

func bracketed(s string, at []int) string {
	var b strings.Builder
	for i, r := range []rune(s) {
		in := slices.Contains(at, i)
		if in && !slices.Contains(at, i-1) {
			b.WriteByte('[')
		}
		b.WriteRune(r)
		if in && !slices.Contains(at, i+1) {
			b.WriteByte(']')
		}
	}
	return b.String()
}

// TestProse: in a description letters that happen to come in that order are no match.
func TestProse(t *testing.T) {
	prose := newText("reads the ledger of production", false, 0)
	for word, want := range map[string]bool{"ledger": true, "prod": true, "of prod": true, "rtl": false, "Ledger": false} {
		if _, _, ok := prose.match([]rune(word)); ok != want {
			t.Errorf("%q: %v", word, ok)
		}
	}
}

// TestRank holds which of two roles stands above.
func TestRank(t *testing.T) {
	roles := []Role{
		{Name: "billing", Account: "333333333333", Description: "invoices, admin of nothing", Use: 1},
		{Name: "dev-admin", Account: "111111111111", Description: "all of development"},
		{Name: "prod-admin", Account: "222222222222", Description: "all of production", Use: 5},
		{Name: "prod-readonly", Account: "222222222222", Description: "looks at production", Use: 2},
		{Name: "a-d-m-i-n", Account: "444444444444"},
		{Name: "Prod-Audit", Account: "555555555555"},
		{Name: "root", Account: "222222222222", Description: "never", Refused: "needs group x", Use: 100},
	}
	for query, want := range map[string][]string{
		"":             {"prod-admin", "prod-readonly", "billing", "Prod-Audit", "a-d-m-i-n", "dev-admin"},
		"  ":           {"prod-admin", "prod-readonly", "billing", "Prod-Audit", "a-d-m-i-n", "dev-admin"},
		"prod":         {"prod-admin", "prod-readonly", "Prod-Audit"},
		"admin":        {"prod-admin", "dev-admin", "a-d-m-i-n", "billing"},
		"admin dev":    {"dev-admin"},
		"2222 read":    {"prod-readonly"},
		"Prod":         {"Prod-Audit"},
		"looks":        {"prod-readonly"},
		"nothing here": nil,
		"never":        nil,
		"zzz":          nil,
	} {
		t.Run(query, func(t *testing.T) {
			if diff := cmp.Diff(want, names(rank(rowsOf(roles), query, false))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	if got := names(rank(rowsOf(roles), "", true)); got[len(got)-1] != "root" || len(got) != len(roles) {
		t.Errorf("with what is not allowed: %q", got)
	}
}

func rowsOf(roles []Role) (rows []row) {
	for _, r := range roles {
		rows = append(rows, newRow(r))
	}
	return rows
}

func names(hits []hit) (out []string) {
	for _, h := range hits {
		out = append(out, h.role.Name)
	}
	return out
}

// FuzzMatch: what is found is the word, in its order, and a word that stands there whole is found.
func FuzzMatch(f *testing.F) {
	f.Add("adm", "dev-admin", true)
	f.Add("A", "dev-Admin", false)
	f.Add("日", "x日本", true)
	f.Fuzz(func(t *testing.T, word, in string, fuzzy bool) {
		v := newText(in, fuzzy, 0)
		w := []rune(word)
		at, _, ok := v.match(w)
		searched := v.folded
		if slices.ContainsFunc(w, unicode.IsUpper) {
			searched = v.runes
		}
		if stands := word != "" && strings.Contains(string(searched), string(w)); stands && !ok {
			t.Fatalf("%q is not found in %q", word, in)
		}
		if !ok {
			return
		}
		if len(at) != len(w) || !slices.IsSorted(at) {
			t.Fatalf("%q in %q at %v", word, in, at)
		}
		for k, i := range at {
			if searched[i] != w[k] || k > 0 && (at[k-1] == i || !fuzzy && at[k-1] != i-1) {
				t.Fatalf("%q in %q at %v", word, in, at)
			}
		}
	})
}
