package main

import (
	"strings"
	"testing"
	"time"

	"sega/audit/query"
)

// TestNothing: an empty answer is said to be one, with what may have been meant, and standard
// output stays as it is.
func TestNothing(t *testing.T) {
	const none = "sega: no event matches\n"
	for line, want := range map[string]string{
		"kind:session.strat":                none + "  kind:session.strat is of no kind that there is; the nearest: session.start\n",
		"--kind foo":                        none + "  kind:foo is of no kind that there is; those of this log: sega audit query --count-by kind\n",
		"--kind user.logon.*":               none + "  kind:user.logon.* is of no kind that there is; the nearest: user.login, user.logout\n",
		"kind:~logn --json":                 none + "  kind:~logn is of no kind that there is; those of this log: sega audit query --count-by kind\n",
		"kind:session --count-by user":      none + "  kind:session is of no kind that there is; the nearest: session.*\n",
		"kind:session.* --json":             none,
		"zoe@example.com zoe@example.com":   none + "  \"zoe@example.com\" was looked for in reasons, tickets and commands; did you mean user:zoe@example.com\n",
		"ssh_x or ses_y":                    none + "  \"ssh_x\" was looked for in reasons, tickets and commands; did you mean session:ssh_x\n  \"ses_y\" was looked for in reasons, tickets and commands; did you mean session:ses_y\n",
		"--user zoe --count-by user --json": none + "  user:zoe is a whole e-mail or subject; did you mean user:zoe* or user:~zoe\n",
		"user:zo*":                          none,
		"not user:*":                        none,
		"--before 0":                        none,
		"--user alice":                      "",
	} {
		_, r := queryWorld(t)
		code := r.sega(append([]string{"audit", "query"}, strings.Fields(line)...)...)
		if code != 0 || r.talk.String() != want {
			t.Errorf("%s: exit %d, stderr\n%swant\n%s", line, code, r.talk, want)
		}
		if lines := strings.Count(r.out.String(), "\n"); want != "" && (lines > 1 || lines == 1 == strings.Contains(line, "--json")) {
			t.Errorf("%s: stdout is %q", line, r.out)
		}
	}
}

// TestHintsAreText: what was typed moves no terminal, and a hint may be typed as it stands.
func TestHintsAreText(t *testing.T) {
	for _, typed := range []string{"user:\"a b\"", `kind:"x\\y"`, "\"x\x1b[2J@b.c\"", strings.Repeat("k", 4000) + "@b.c"} {
		x, err := query.Parse(typed, noon)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hints(x) {
			_, offer, found := strings.Cut(h, "did you mean ")
			if _, err := query.Parse(offer, time.Time{}); found && err != nil {
				t.Errorf("%.60q: %v", h, err)
			}
		}
	}
	if got := nearestKinds(strings.Repeat("x", 1<<20)); got != nil {
		t.Errorf("%q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"strat", "start", 2}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
