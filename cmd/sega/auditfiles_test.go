package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestFileText(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	run := `{"offset":0,"bytes":7,"sha256":"` + sum + `"}`
	for details, want := range map[string]string{
		`{"path":"/srv/a","written":{"bytes":7,"runs":[` + run + `]}}`:                                              "/srv/a 7 bytes sha256:" + sum,
		`{"path":"/srv/a","read":{"bytes":7,"runs":[` + strings.Replace(run, `"offset":0`, `"offset":9`, 1) + `]}}`: "/srv/a 7 bytes from 9 on, sha256:" + sum,
		`{"path":"/srv/a","written":{"bytes":14,"runs":[` + run + "," + run + `]}}`:                                 "/srv/a 14 bytes in pieces",
		`{"path":"/a","to":"/b"}`:                                                  "/a → /b",
		`{"withheld":true,"written":{"bytes":7,"runs":[` + run + `]}}`:             "(path withheld) 7 bytes sha256:" + sum,
		`{"counts":{"stat":{"count":3,"failed":1},"realpath":{"count":1}}}`:        "4 looks",
		`{"protocol":"sftp","extension":"x@y","request":{"path":"/not/this/one"}}`: "",
		`not JSON`: "",
	} {
		if got := fileText(json.RawMessage(details)); got != want {
			t.Errorf("%s: %q, want %q", details, got, want)
		}
	}
}
