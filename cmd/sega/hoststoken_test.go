package main

import (
	"strings"
	"testing"
	"time"
)

// TestHostTokenRequest: what is wrong is said before the broker is asked.
func TestHostTokenRequest(t *testing.T) {
	for name, c := range map[string]struct {
		o    hostTokenOptions
		want string // of the error
	}{
		"a login":       {hostTokenOptions{expires: time.Hour, logins: []string{"deploy"}}, ""},
		"own accounts":  {hostTokenOptions{expires: time.Hour, groups: []string{"sre"}}, ""},
		"nobody":        {hostTokenOptions{expires: time.Hour}, "--login NAME"},
		"no time":       {hostTokenOptions{logins: []string{"deploy"}}, "--expires"},
		"no label":      {hostTokenOptions{expires: time.Hour, logins: []string{"deploy"}, labels: []string{"prod"}}, "KEY=VALUE"},
		"a label twice": {hostTokenOptions{expires: time.Hour, logins: []string{"deploy"}, labels: []string{"a=1", "a=2"}}, "KEY=VALUE"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.o.request("db-1")
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || exitCode(err) != exitUsage) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
