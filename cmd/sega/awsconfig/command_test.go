package awsconfig

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// awkward are parts of paths that somebody may have.
var awkward = []string{"plain", "with space", "it's", `"quoted"`, "dollar$HOME", "semi;colon", "hash#tag", "star*", `back\slash`, "~tilde", "ünïcode", "per%cent", "a=b", "`tick`", "(paren)", "&&", "'both' \"kinds\""}

// TestCommandThroughReaders has the value read by those who will: a shell, and Python's shlex, which
// botocore uses without a shell.
func TestCommandThroughReaders(t *testing.T) {
	var commands []string
	var want [][]string
	for _, part := range awkward {
		for _, env := range [][]string{nil, {"SEGA_HOME=/home/" + part, "SEGA_BROKER=https://sega.example"}} {
			p := Program{Path: "/opt/" + part + "/sega", Env: env}
			command, err := p.Command("dev-admin", "4h")
			if err != nil {
				t.Fatal(err)
			}
			words := []string{p.Path, "credential-process", "dev-admin", "--duration", "4h"}
			if env != nil {
				words = slices.Concat([]string{"/usr/bin/env"}, env, words)
			}
			commands, want = append(commands, command), append(want, words)
			got, ok := shellWords(command)
			if diff := cmp.Diff(words, got); !ok || diff != "" {
				t.Errorf("%s is read as %v: %s", command, got, diff)
			}
			out, err := exec.Command("sh", "-c", `printf '%s\0' `+command).Output()
			if diff := cmp.Diff(words, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")); err != nil || diff != "" {
				t.Errorf("sh, %v: %s", err, diff)
			}
		}
	}
	out, err := exec.Command("/usr/bin/python3", append([]string{"-c", "import json,shlex,sys; print(json.dumps([shlex.split(c) for c in sys.argv[1:]]))"}, commands...)...).Output()
	var got [][]string
	if err := errors.Join(err, json.Unmarshal(out, &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("shlex: %s", diff)
	}
}

func TestCommandRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		program        Program
		role, duration string
	}{
		"no role":              {program, "", ""},
		"a flag for a role":    {program, "--help", ""},
		"a shell's role":       {program, "$(id)", ""},
		"a role with a space":  {program, "a b", ""},
		"a role with an end":   {program, "a\nrole_arn = x", ""},
		"a shell's duration":   {program, "a", "1h;id"},
		"a path with an end":   {Program{Path: "/a\nb"}, "a", ""},
		"a comment in a path":  {Program{Path: "/a #b/sega"}, "a", ""},
		"a comment in a value": {Program{Path: "/sega", Env: []string{"SEGA_HOME=/a ;b"}}, "a", ""},
		"a variable, Windows":  {Program{Path: `C:\sega.exe`, Env: []string{"SEGA_HOME=x"}, Windows: true}, "a", ""},
		"a percent, Windows":   {Program{Path: `C:\%x%\sega.exe`, Windows: true}, "a", ""},
		"an ampersand":         {Program{Path: `C:\a & b\sega.exe`, Windows: true}, "a", ""},
	} {
		if got, err := tt.program.Command(tt.role, tt.duration); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
	for path, want := range map[string]string{`C:\bin\sega.exe`: `C:\bin\sega.exe credential-process a`, `C:\Program Files\sega.exe`: `"C:\Program Files\sega.exe" credential-process a`} {
		if got, err := (Program{Path: path, Windows: true}).Command("a", ""); got != want {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, part := range awkward {
		f.Add("/opt/"+part+"/sega", "SEGA_HOME=/"+part, "dev")
	}
	f.Fuzz(func(t *testing.T, path, env, role string) {
		command, err := Program{Path: path, Env: []string{env}}.Command(role, "")
		if err != nil {
			return
		}
		words, ok := shellWords(command)
		if diff := cmp.Diff([]string{"/usr/bin/env", env, path, "credential-process", role}, words); !ok || diff != "" {
			t.Error(diff)
		}
		s := Parse([]byte("[profile x]\ncredential_process = " + command + "\n")).Sections
		if got, _ := s[0].Get("credential_process"); len(s) != 1 || got != command {
			t.Errorf("%q is read back as %q", command, got)
		}
	})
}
