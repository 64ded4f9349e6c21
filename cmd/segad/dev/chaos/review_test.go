//go:build linux

package chaos

import (
	"encoding/json"
	"strings"

	"sega/cmd/segad/dev/devtest"
)

// shown is the part of `audit show --json` that these tests look at.
type shown struct {
	ID        string `json:"id"`
	Outcome   string `json:"outcome"`
	Reason    string `json:"reason"`
	Recording string `json:"recording"`
	Detail    string `json:"recording_detail"`
}

// show is what a reviewer's `sega audit show` says of a session.
func show(p *devtest.Person, id string) shown {
	p.T.Helper()
	res := p.Sega("audit", "show", id, "--json")
	var v shown
	if err := json.Unmarshal([]byte(res.Out), &v); err != nil {
		p.T.Errorf("audit show %s: exit %d, %v\n%s%s", id, res.Code, err, res.Out, res.Err)
	}
	return v
}

// verify fails unless `sega audit verify` is content.
func verify(p *devtest.Person) {
	p.T.Helper()
	if res := p.Sega("audit", "verify"); res.Code != 0 {
		p.T.Errorf("audit verify: exit %d\n%s%s", res.Code, res.Out, res.Err)
	} else {
		p.T.Logf("audit verify: %s", strings.TrimSpace(res.Out))
	}
}

// play is what the host sent, as the recording has it.
func play(p *devtest.Person, id string) string {
	p.T.Helper()
	res := p.Sega("audit", "play", id, "--instant", "--reason", "test")
	if res.Code != 0 {
		p.T.Errorf("audit play %s: exit %d\n%s", id, res.Code, res.Err)
	}
	return res.Out
}
