package main

import (
	"encoding/json"
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

// TestEnvInShell has the real shell read what `sega env` prints, as the manual says to.
func TestEnvInShell(t *testing.T) {
	for format, load := range map[string]string{"shell": `eval "$1"`, "dotenv": `f=$(mktemp); printf %s "$1" >"$f"; set -a; . "$f"; rm -f "$f"`} {
		for name, value := range hostileValues {
			t.Run(format+"/"+name, func(t *testing.T) {
				c := exec.Command("/bin/sh", "-c", load+`; printf '%s|%s|%s' "$BEFORE" "$VALUE" "$AFTER"`, "sh", rendered(t, format, value))
				out, err := c.CombinedOutput()
				if want := "1|" + value + "|2"; err != nil || string(out) != want {
					t.Errorf("%v: %q, want %q", err, out, want)
				}
			})
		}
	}
}

// TestEnvByRule reads fish, PowerShell and JSON by their rules of quoting.
func TestEnvByRule(t *testing.T) {
	for name, value := range hostileValues {
		t.Run(name, func(t *testing.T) {
			fish := strings.TrimSuffix(strings.TrimPrefix(rendered(t, "fish", value), "set -gx BEFORE '1'\n"), "set -gx AFTER '2'\n")
			if got, ok := fishWord(strings.TrimSuffix(strings.TrimPrefix(fish, "set -gx VALUE "), "\n")); !ok || got != value {
				t.Errorf("fish reads %q, %v", got, ok)
			}
			power := strings.TrimSuffix(strings.TrimPrefix(rendered(t, "powershell", value), "$Env:BEFORE = '1'\n"), "$Env:AFTER = '2'\n")
			if got, ok := powershellWord(strings.TrimSuffix(strings.TrimPrefix(power, "$Env:VALUE = "), "\n")); !ok || got != value {
				t.Errorf("powershell reads %q, %v", got, ok)
			}
			var m map[string]string
			if err := json.Unmarshal([]byte(rendered(t, "json", value)), &m); err != nil || !cmp.Equal(m, map[string]string{"BEFORE": "1", "VALUE": value, "AFTER": "2"}) {
				t.Errorf("json reads %v, %v", m, err)
			}
		})
	}
}

// fishWord reads one single-quoted word of fish, in which a backslash quotes itself and the quote.
func fishWord(s string) (string, bool) {
	if len(s) < 2 || s[0] != '\'' {
		return "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			return b.String(), i == len(s)-1
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '\\' || s[i+1] == '\''):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", false
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
	got := childEnv(env, granted{Credentials: creds, LoginID: "ses_1"})
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
