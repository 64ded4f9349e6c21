package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/keychain/secret"
)

// hostileValues are what no reader of `sega env` may take for more than a value.
var hostileValues = map[string]string{
	"plain": "AKIA/+=", "empty": "", "quotes": `a'b"c'`, "dollar": `$HOME ${HOME} $(echo canary)`, "backticks": "`echo canary`", "backslash": `a\b\\c\`,
	"newline": "a\nb", "semicolon": "a; echo canary", "exclamation": "a!!b", "spaces": "  a  b  ", "comment": "a # b", "percent": "%s%n", "glob": "* ~ [a] {a,b}", "leading dash": "-n",
	"curly quotes": "a’b‘c‚d‛e",
}

func rendered(t *testing.T, format, value string) string {
	t.Helper()
	text, err := envFormats[format]([][2]string{{"BEFORE", "1"}, {"VALUE", value}, {"AFTER", "2"}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// need skips, or in CI fails, where a program of the system is missing.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: run scripts/deps", program)
		}
		t.Skipf("%s is missing: run scripts/deps", program)
	}
}

// TestEnvInShells has the real shells read what `sega env` prints, as the manual says to, in an
// environment full of what must go.
func TestEnvInShells(t *testing.T) {
	const sh = `printf '%s|%s|%s|' "$BEFORE" "$VALUE" "$AFTER"; env | grep stale`
	for name, c := range map[string]struct {
		format string
		argv   []string // the text follows
	}{
		"sh":     {"shell", []string{"sh", "-c", `eval "$1"; ` + sh, "sh"}},
		"sh -eu": {"shell", []string{"sh", "-euc", `eval "$1"; ` + sh, "sh"}},
		"bash":   {"shell", []string{"bash", "-c", `eval "$1"; ` + sh, "bash"}},
		"zsh":    {"shell", []string{"zsh", "-fc", `eval "$1"; ` + sh, "zsh"}},
		"fish":   {"fish", []string{"fish", "-Nc", `printf %s $argv[1] | source; printf '%s|%s|%s|' $BEFORE $VALUE $AFTER; env | grep stale`}},
		"dotenv": {"dotenv", []string{"env", "-i", "PATH=" + os.Getenv("PATH"), "sh", "-c", `f=$(mktemp); printf %s "$1" >"$f"; set -a; . "$f"; rm -f "$f"; ` + sh, "sh"}},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, c.argv[0])
			for what, value := range hostileValues {
				e := exec.Command(c.argv[0], append(c.argv[1:], rendered(t, c.format, value))...)
				e.Env = append(os.Environ(), "HOME="+t.TempDir())
				for _, stale := range staleVariables {
					e.Env = append(e.Env, stale+"=stale")
				}
				out, err := e.Output()
				var exit *exec.ExitError
				if want := "1|" + value + "|2|"; string(out) != want || !errors.As(err, &exit) || len(exit.Stderr) > 0 { // grep finds nothing
					t.Errorf("%s: %v: %q, want %q", what, err, out, want)
				}
			}
		})
	}
}

// TestDotenvIsPlain: what AWS's credentials are made of stands in no quotes, which readers of dotenv
// files understand each in its own way.
func TestDotenvIsPlain(t *testing.T) {
	creds := api.Credentials{AccessKeyID: "ASIAEXAMPLE234567ABC", SecretAccessKey: secret.FromString("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
		SessionToken: secret.FromString("IQoJb3JpZ2luX2VjEA//+=="), Expiration: noon, Role: "dev-admin"}
	text, err := envFormats["dotenv"](variables(granted{Credentials: creds, LoginID: "ses_1"}))
	want := "AWS_ACCESS_KEY_ID=ASIAEXAMPLE234567ABC\nAWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\nAWS_SESSION_TOKEN=IQoJb3JpZ2luX2VjEA//+==\n" +
		"AWS_CREDENTIAL_EXPIRATION=2030-01-02T12:00:00Z\nSEGA_ROLE=dev-admin\nSEGA_SESSION=ses_1\n"
	if diff := cmp.Diff(want, text); err != nil || diff != "" {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
}

// TestEnvByRule reads PowerShell and JSON by their rules of quoting.
func TestEnvByRule(t *testing.T) {
	for name, value := range hostileValues {
		t.Run(name, func(t *testing.T) {
			power := rendered(t, "powershell", value)
			removed, power, _ := strings.Cut(power, "$Env:BEFORE = '1'\n")
			if got, ok := powershellWord(strings.TrimSuffix(strings.TrimPrefix(power, "$Env:VALUE = "), "\n$Env:AFTER = '2'\n")); !ok || got != value {
				t.Errorf("powershell reads %q, %v", got, ok)
			}
			for _, stale := range staleVariables {
				if !strings.Contains(removed, "Remove-Item Env:"+stale+" -ErrorAction Ignore\n") {
					t.Errorf("%s stays", stale)
				}
			}
			var m map[string]string
			if err := json.Unmarshal([]byte(rendered(t, "json", value)), &m); err != nil || !cmp.Equal(m, map[string]string{"BEFORE": "1", "VALUE": value, "AFTER": "2"}) {
				t.Errorf("json reads %v, %v", m, err)
			}
		})
	}
}

// powershellWord reads one single-quoted string of PowerShell, which takes every typographic single
// quote for one too; doubled, it is itself.
func powershellWord(s string) (string, bool) {
	const quotes = "'‘’‚‛"
	r := []rune(s)
	if len(r) < 2 || r[0] != '\'' {
		return "", false
	}
	var b strings.Builder
	for i := 1; i < len(r); i++ {
		if strings.ContainsRune(quotes, r[i]) {
			if i+1 >= len(r) || !strings.ContainsRune(quotes, r[i+1]) {
				return b.String(), i == len(r)-1
			}
			i++
		}
		b.WriteRune(r[i])
	}
	return "", false
}

func TestChildEnv(t *testing.T) {
	creds := api.Credentials{AccessKeyID: "ASIANEW", SecretAccessKey: secret.FromString("new-secret"), SessionToken: secret.FromString("new-token"),
		Expiration: noon.In(time.FixedZone("x", 3600)), Role: "dev-admin"}
	kept := []string{"HOME=/home/x", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1", "AWS_ENDPOINT_URL_STS=http://127.0.0.1:1", "AWS_CA_BUNDLE=/x", "AWS_SDK_LOAD_CONFIG=1",
		"AWS_CONFIG_FILE=/x", "AWS_SHARED_CREDENTIALS_FILE=/x", "aws_profile=lower", "AWS_PROFILES=x", "SEGA_BROKER=x", "XAWS_PROFILE=x", "EMPTY=", "NOVALUE"}
	var env []string
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
		"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "SEGA_ROLE", "SEGA_SESSION"} {
		env = append(env, name+"=stale", name+"=stale again", name+"=")
	}
	env = append(env, kept...)
	before := slices.Clone(env)
	got := childEnv(env, variables(granted{Credentials: creds, LoginID: "ses_1"}))
	want := append(slices.Clone(kept), "AWS_ACCESS_KEY_ID=ASIANEW", "AWS_SECRET_ACCESS_KEY=new-secret", "AWS_SESSION_TOKEN=new-token",
		"AWS_CREDENTIAL_EXPIRATION=2030-01-02T12:00:00Z", "SEGA_ROLE=dev-admin", "SEGA_SESSION=ses_1")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !cmp.Equal(before, env) {
		t.Error("our own environment was changed")
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]int{"": 0, "15m": 900, "900": 900, "45m": 2700, "3600": 3600, "1h": 3600, "12h": 43200, "43200": 43200, "1h30m": 5400} {
		if got, err := parseSeconds(in); got != want || err != nil {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"14m59s", "899", "12h0m1s", "43201", "0", "-1", "-1h", "1d", "x", " 1h", "1h ", "36028797018967568", "99999999999999999999", "NaN", "1e4"} {
		if got, err := parseSeconds(in); exitCode(err) != exitUsage {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}

func TestShell(t *testing.T) {
	for in, want := range map[string]string{"/bin/zsh": "/bin/zsh", "": "/bin/sh"} {
		if got := shell(func(string) string { return in }); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
