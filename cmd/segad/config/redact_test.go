package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRedact(t *testing.T) {
	var got Broker
	if err := Parse([]byte("redact:\n  - name: corp\n    pattern: 'corp_(\\w+)'\n  - {name: jwt, pattern: \"\"}\n"), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Redaction{{"corp", `corp_(\w+)`}, {Name: "jwt"}}, got.Redact); diff != "" {
		t.Error(diff)
	}
}
