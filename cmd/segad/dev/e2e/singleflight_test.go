//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// many is how many commands ask at the same time.
const many = 100

// atOnce runs a command many times at the same time. All are started before the first one is let go.
func atOnce(t *testing.T, p *devtest.Person, args ...string) []devtest.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	results := make([]devtest.Result, many)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() {
			var out, errs bytes.Buffer
			c := p.Command(ctx, "sega", args...)
			c.Stdout, c.Stderr = &out, &errs
			<-start
			err := c.Run()
			results[i] = devtest.Result{Out: out.String(), Err: errs.String(), Code: c.ProcessState.ExitCode()}
			if err != nil {
				t.Errorf("%v: %v\n%s", args, err, errs.String())
			}
		})
	}
	close(start)
	group.Wait()
	return results
}

// alike wants the same answer of all, and returns it.
func alike(t *testing.T, results []devtest.Result) string {
	t.Helper()
	for i, r := range results {
		if r.Out != results[0].Out || r.Code != 0 {
			t.Fatalf("answer %d: exit %d\n%s%s\nthe first: %s", i, r.Code, r.Out, r.Err, results[0].Out)
		}
	}
	return results[0].Out
}

// isProcessForm wants exactly what AWS calls version 1 of a credential process's output.
func isProcessForm(t *testing.T, text string) {
	t.Helper()
	var v struct {
		Version                                                                int
		AccessKeyId, SecretAccessKey, SessionToken, Expiration, AccountId, End string
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil || d.More() || v.Version != 1 || v.AccessKeyId == "" || v.SecretAccessKey == "" || v.SessionToken == "" {
		t.Errorf("not of the form of AWS's process credentials: %v\n%s", err, text)
	}
	if at, err := time.Parse("2006-01-02T15:04:05Z", v.Expiration); err != nil || time.Until(at) < 10*time.Minute {
		t.Errorf("expires at %q", v.Expiration)
	}
}

// TestSingleFlight is the issue's: many cold calls at once make one AssumeRole, with an agent that has to be
// started first, with one that knows nothing yet, and with none.
func TestSingleFlight(t *testing.T) {
	e := devtest.Up(t)
	for name, c := range map[string]struct {
		warm   bool // an agent runs, with a login and no credentials
		args   []string
		agents int
		check  func(t *testing.T, out string)
	}{
		"no agent yet":         {false, []string{"credential-process", "dev-admin"}, 1, isProcessForm},
		"an agent that is new": {true, []string{"credential-process", "dev-admin"}, 1, isProcessForm},
		"without an agent":     {false, []string{"credential-process", "--no-agent", "dev-admin"}, 0, isProcessForm},
		"exec":                 {false, []string{"exec", "dev-admin", "--env", "--", "sh", "-c", "echo $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_SESSION_TOKEN"}, 1, nil},
		"exec by an endpoint":  {false, []string{"exec", "dev-admin", "--", "sh", "-c", `curl -sf -H "Authorization: $AWS_CONTAINER_AUTHORIZATION_TOKEN" "$AWS_CONTAINER_CREDENTIALS_FULL_URI"`}, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.With(t)
			p := e.LoggedIn(alice)
			if c.warm {
				expect(t, p.Sega("status"), 0, "the agent")
			}
			before := e.AssumeRoles()
			out := alike(t, atOnce(t, p, c.args...))
			if n := e.AssumeRoles() - before; n != 1 {
				t.Errorf("%d AssumeRole, want 1", n)
			}
			if n := len(agentsOf(t, p.Home)); n != c.agents {
				t.Errorf("%d agents, want %d", n, c.agents)
			}
			if c.check != nil {
				c.check(t, out)
			}
			again := p.Sega(c.args...)
			if expect(t, again, 0); again.Out != out {
				t.Errorf("one more gets\n%s\nwhere the many got\n%s", again.Out, out)
			}
		})
	}
}
