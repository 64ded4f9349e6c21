package doctor

import (
	"context"
	"fmt"
	"time"
)

// State is how a thing is found to be.
type State string

// The states, a closed set.
const (
	OK   State = "ok"
	Warn State = "warn" // it works, or does not matter yet
	Fail State = "fail" // something that is needed does not work
	Skip State = "skip" // it could not be looked at, and the text says why
)

// Finding is what a check found, in one line, and what mends it.
type Finding struct {
	Check string `json:"check"` // its name: stable, for programs
	State State  `json:"state"`
	Text  string `json:"text"`
	Mend  string `json:"mend,omitempty"` // a command, or what to do
	MS    int64  `json:"ms"`             // how long the check took
}

func good(format string, args ...any) Finding {
	return Finding{State: OK, Text: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) Finding {
	return Finding{State: Skip, Text: fmt.Sprintf(format, args...)}
}

func warning(mend, format string, args ...any) Finding {
	return Finding{State: Warn, Text: fmt.Sprintf(format, args...), Mend: mend}
}

func failing(mend, format string, args ...any) Finding {
	return Finding{State: Fail, Text: fmt.Sprintf(format, args...), Mend: mend}
}

// Check looks at one thing and returns at least one finding.
type Check struct {
	Name string
	Look func(ctx context.Context) []Finding
}

// Run runs all checks at once and gives tell their findings in the order of the checks, each as soon
// as those before it are told. A check that has not ended after patience is a finding itself; what it
// waits for is left to the end of the process. It returns how many findings are failures, or the first
// error of tell, which ends it.
func Run(ctx context.Context, checks []Check, patience time.Duration, tell func(Finding) error) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers := make([]chan []Finding, len(checks))
	for i, c := range checks {
		answers[i] = make(chan []Finding, 1)
		go func() {
			begun := time.Now()
			found := c.Look(ctx)
			for j := range found {
				found[j].Check, found[j].MS = c.Name, time.Since(begun).Milliseconds()
			}
			answers[i] <- found
		}()
	}
	for i, c := range checks {
		for _, f := range await(ctx, answers[i], c.Name, patience) {
			if f.State == Fail {
				failed++
			}
			if err := tell(f); err != nil {
				return failed, err
			}
		}
	}
	return failed, nil
}

// lateness is what a check gets beyond the end of its time to say so itself.
const lateness = 100 * time.Millisecond

func await(ctx context.Context, answer <-chan []Finding, name string, patience time.Duration) []Finding {
	select {
	case found := <-answer:
		return found
	case <-ctx.Done():
	}
	t := time.NewTimer(lateness)
	defer t.Stop()
	select {
	case found := <-answer:
		return found
	case <-t.C:
	}
	f := failing("", "it did not answer within %s", patience)
	f.Check, f.MS = name, patience.Milliseconds()
	return []Finding{f}
}
