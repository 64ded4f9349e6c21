package audit

import (
	"testing"
	"time"
)

func TestFilterMatch(t *testing.T) {
	e := vectorEvent()
	intent := e
	intent.Outcome = Intent
	for name, c := range map[string]struct {
		filter Filter
		event  Event
		want   bool
	}{
		"zero":               {Filter{}, e, true},
		"intents left out":   {Filter{}, intent, false},
		"intents asked for":  {Filter{Intents: true}, intent, true},
		"outcome intent":     {Filter{Outcome: Intent}, intent, true},
		"outcome":            {Filter{Outcome: Denied}, e, false},
		"e-mail":             {Filter{User: "ann@corp.example"}, e, true},
		"sub as user":        {Filter{User: "00u1"}, e, true},
		"user by prefix":     {Filter{User: "ann@*"}, e, true},
		"user by half":       {Filter{User: "ann@"}, e, false},
		"other user":         {Filter{User: "bob*"}, e, false},
		"kind":               {Filter{Kind: "ssh.hop"}, e, true},
		"kind by prefix":     {Filter{Kind: "ssh.*"}, e, true},
		"other kind":         {Filter{Kind: "aws.*"}, e, false},
		"host":               {Filter{Host: "db1"}, e, true},
		"any host":           {Filter{Host: "*"}, e, true},
		"role of a host":     {Filter{Role: "*"}, e, false},
		"login":              {Filter{Session: "ses_a"}, e, true},
		"SSH session":        {Filter{Session: "ssh_b"}, e, true},
		"other session":      {Filter{Session: "ssh_a"}, e, false},
		"actor":              {Filter{Sub: "00u1", Iss: "https://idp.corp.example"}, e, true},
		"actor of other IdP": {Filter{Sub: "00u1", Iss: "https://evil.example"}, e, false},
		"actor without IdP":  {Filter{Sub: "00u1"}, e, false},
		"since then":         {Filter{Since: e.Time}, e, true},
		"since later":        {Filter{Since: e.Time.Add(1)}, e, false},
		"until then":         {Filter{Until: e.Time}, e, false},
		"until later":        {Filter{Until: e.Time.Add(time.Nanosecond)}, e, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.filter.Match(c.event); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
