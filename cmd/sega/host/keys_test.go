//go:build linux

package host

import (
	"strings"
	"testing"
	"time"

	"sega/broker/api"
	"sega/sshca"
)

// TestAuthorizedKey: whatever a broker sends, one restricted line comes out, or none.
func TestAuthorizedKey(t *testing.T) {
	now, key := time.Unix(1_900_000_000, 0), sshca.MarshalLine(newSigner(t).PublicKey())
	good := api.HostKey{Key: key, From: "192.0.2.9/32,2001:db8::/64", Options: "restrict,pty", SessionID: session, Expires: now.Add(time.Minute)}
	for name, tt := range map[string]struct {
		change func(*api.HostKey)
		good   bool
	}{
		"good":                   {func(*api.HostKey) {}, true},
		"a key in the session":   {func(k *api.HostKey) { k.SessionID += "\n" + key }, false},
		"a word in the session":  {func(k *api.HostKey) { k.SessionID += " x" }, false},
		"no session":             {func(k *api.HostKey) { k.SessionID = "" }, false},
		"two keys":               {func(k *api.HostKey) { k.Key += "\n" + key }, false},
		"options before the key": {func(k *api.HostKey) { k.Key = "permitopen=\"*:*\" " + key }, false},
		"from anywhere":          {func(k *api.HostKey) { k.From = "" }, false},
		"a quote in from":        {func(k *api.HostKey) { k.From = `192.0.2.9/32",command="x` }, false},
		"another option":         {func(k *api.HostKey) { k.Options += ",user-rc" }, false},
		"not restricted":         {func(k *api.HostKey) { k.Options = "pty" }, false},
		"expired":                {func(k *api.HostKey) { k.Expires = now }, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := good
			tt.change(&k)
			line, err := authorizedKey(k, now)
			if (err == nil) != tt.good || err == nil && (strings.ContainsAny(line, "\r\n") || !strings.Contains(line, `",restrict,`)) {
				t.Errorf("%q, %v", line, err)
			}
		})
	}
}
