package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestShowCAs: what is to be done, and what it waits for, is told apart from the key that is next.
func TestShowCAs(t *testing.T) {
	at := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	next := api.CAKey{Phase: "next", Fingerprint: "SHA256:b", Line: "ssh-ed25519 B", Version: 2, Published: at}
	for name, c := range map[string]struct {
		ca   api.CA
		want string
	}{
		"waits for a host": {api.CA{Name: "hop", Signing: true, Next: "rotate", Keys: []api.CAKey{next}, Seen: []api.CASeen{{Kind: "host", Name: "web-1"}}},
			"CA   WHAT    WHICH                VERSION  STATE\nhop  next    SHA256:b             2        since 2026-01-31T08:00:00Z\nhop    host  web-1                         has said nothing\n" +
				"hop  to do   segad ca rotate hop           when all of them have the next key\nhop     next     ssh-ed25519 B\n"},
		"waits for a time": {api.CA{Name: "hop", Signing: true, Next: "retire", NotYet: at},
			"CA   WHAT   WHICH                VERSION  STATE\nhop  to do  segad ca retire hop           not before 2026-01-31T08:00:00Z\n"},
		"hosts by hand": {api.CA{Name: "hop", Signing: true, Next: "rotate", ByHand: []string{"web-1"}},
			"CA   WHAT       WHICH                          VERSION  STATE\nhop    by hand                                          not enrolled, see to their TrustedUserCAKeys: web-1\n" +
				"hop  to do      segad ca rotate hop --by-hand\n"},
		"certificates by hand": {api.CA{Name: "host", Signing: true, Next: "retire", ByHand: []string{"web-1"}},
			"CA    WHAT       WHICH                           VERSION  STATE\nhost    by hand                                           not enrolled, sign their keys anew, segad ca sign-host: web-1\n" +
				"host  to do      segad ca retire host --by-hand\n"},
		"waits for nothing": {api.CA{Name: "hop", Signing: true, Next: "rotate", Seen: []api.CASeen{{Kind: "host", Name: "web-1", Seen: true}}},
			"CA   WHAT    WHICH                VERSION  STATE\nhop    host  web-1                         has the next key\nhop  to do   segad ca rotate hop\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			showCAs(&out, api.CAs{Version: 7, CAs: []api.CA{c.ca}}, "")
			if diff := cmp.Diff("trust bundles of version 7\n"+c.want, out.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
