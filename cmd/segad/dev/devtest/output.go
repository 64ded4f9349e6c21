//go:build linux

package devtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// output is what an environment prints, while it does.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// AssumeRoles returns how many calls of AssumeRole and AssumeRoleWithWebIdentity the STS double has had since
// the start of the environment, refused ones included.
func (e *Env) AssumeRoles() int {
	e.T.Helper()
	// What was asked before a call of ours was logged before it.
	before := e.calls("")
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(e.STS)
	if err != nil {
		e.T.Fatal(err)
	}
	_ = resp.Body.Close()
	Eventually(e.T, 10*time.Second, "the STS double logs nothing", func() error {
		if e.calls("") == before {
			return errors.New("no call without an action")
		}
		return nil
	})
	return e.calls("AssumeRole") + e.calls("AssumeRoleWithWebIdentity")
}

// calls counts the double's log lines of an action; "" is for what was refused before it was read.
func (e *Env) calls(action string) int {
	n := 0
	for line := range strings.Lines(e.out.String()) {
		var v struct{ Msg, Action string }
		if json.Unmarshal([]byte(line), &v) == nil && v.Msg == "call" && v.Action == action {
			n++
		}
	}
	return n
}
