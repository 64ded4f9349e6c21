package main

import (
	"testing"
	"time"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

// TestMendOf: nobody who runs sega doctor is sent to it.
func TestMendOf(t *testing.T) {
	for hint, want := range map[string]string{"run: sega login": "sega login", "try again; see: sega doctor": "try again", "see: sega doctor": "", "first\nsecond": "first", "": ""} {
		if got := mendOf(hint); got != want {
			t.Errorf("%q: %q", hint, got)
		}
	}
}

// TestLoginOfABadCAFile: a wrong SEGA_CA_FILE is no fault of the stored session, which is read all the same.
func TestLoginOfABadCAFile(t *testing.T) {
	a, _, _ := testApp(t, "SEGA_CA_FILE=/none")
	key, err := dpop.GenerateKey()
	must(t, err)
	kept, err := saved{Origin: "https://sega.test", Key: key, Session: api.Session{Token: secret.FromString("t"), LoginID: "ses_1", NotAfter: noon.Add(time.Hour)}}.seal()
	must(t, err)
	store, err := a.secrets()
	must(t, err)
	must(t, store.Put(itemSession, kept))
	l, err := a.examinedLogin(t.Context())
	if err != nil || l.ID != "ses_1" {
		t.Fatalf("%+v: %v", l, err)
	}
	if _, err := l.Broker.Status(t.Context()); err == nil {
		t.Error("the broker was asked without the CA file")
	}
}
