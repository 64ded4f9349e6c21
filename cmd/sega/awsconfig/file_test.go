package awsconfig

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// samples are texts in the dialect and outside of it; each seeds the fuzz tests as well.
var samples = map[string]string{
	"empty":             "",
	"only a mark":       mark,
	"usual":             "[default]\nregion = eu-west-1\n\n[profile work]\nrole_arn = arn:aws:iam::111111111111:role/work\nsource_profile = default\n",
	"no newline":        "[profile a]\nregion = x",
	"CRLF":              "[profile a]\r\nregion = x\r\n\r\n[profile b]\r\nregion = y",
	"mixed ends":        "[profile a]\r\nregion = x\n[profile b]\n\rregion = y\r",
	"mark":              mark + "[default]\nregion = x\n",
	"nested":            "[profile a]\ns3 =\n  max_concurrent_requests = 20\n\n  # not nested\n  addressing_style = path\nregion = x\n",
	"indented":          "  [profile a]\n    region = x\n    output = json\n",
	"comments":          "# top\n; top too\n[profile a] # of the section\n# mine\nregion = x # behind\noutput = json ;also\n",
	"quoted":            "[profile \"with space\"]\nregion = x\n[profile 'single']\n[profile \"open]\n",
	"other sections":    "[sso-session corp]\nsso_region = x\n[services local]\ns3 =\n  endpoint_url = http://x\n[preview]\na = b\n[plugins]\n",
	"duplicates":        "[profile a]\nregion = x\n[profile b]\n[profile a]\nregion = y\nregion = z\n",
	"garbage":           "before all\nkey = before\n[profile a]\ngarbage\n= no key\n[]\n[\n]\n[x\nregion = x\n",
	"colons":            "[profile a]\nregion: x\nrole_arn = arn:aws:iam::1:role/x\nARN: a=b\n",
	"upper case":        "[profile a]\nREGION = x\nRegion_2=y\n",
	"bytes":             "[profile \xff\xfe]\nregion = \x00\x01\n\x85\n",
	"bracket in indent": "[profile a]\ns3 =\n  [profile b]\nregion = x\n",
	"brackets":          "[profile a] # [b]\n[profile c] x [d]\n[profile e;f]\n",
	"long":              "[profile a]\nregion = " + strings.Repeat("x", 5_000) + "\n",
}

func TestRoundTrip(t *testing.T) {
	for name, text := range samples {
		if got := string(Parse([]byte(text)).Bytes()); got != text {
			t.Errorf("%s: %q became %q", name, text, got)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, text := range samples {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed := Parse(data)
		if got := parsed.Bytes(); !bytes.Equal(got, data) {
			t.Errorf("%q became %q", data, got)
		}
		for _, s := range parsed.Sections {
			if s.Profile() != "" && s.Type == "" && s.Name != "default" {
				t.Errorf("[%s] is the profile %q", s.Title, s.Profile())
			}
			s.Get("region")
		}
	})
}

// described is what a test compares of a section.
type described struct {
	Title, Type, Name, Profile string
	Line                       int
	Values                     map[string]string
}

func describe(f *File, keys ...string) (out []described) {
	for _, s := range f.Sections {
		d := described{s.Title, s.Type, s.Name, s.Profile(), s.Line, map[string]string{}}
		for _, key := range keys {
			if v, ok := s.Get(key); ok {
				d.Values[key] = v
			}
		}
		out = append(out, d)
	}
	return out
}

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want []described
	}{
		"usual": {samples["usual"], []described{
			{"default", "", "default", "default", 1, map[string]string{"region": "eu-west-1"}},
			{"profile work", "profile", "work", "work", 4, map[string]string{"role_arn": "arn:aws:iam::111111111111:role/work"}}}},
		"mark": {samples["mark"], []described{{"default", "", "default", "default", 1, map[string]string{"region": "x"}}}},
		"CRLF": {samples["CRLF"], []described{
			{"profile a", "profile", "a", "a", 1, map[string]string{"region": "x"}}, {"profile b", "profile", "b", "b", 4, map[string]string{"region": "y"}}}},
		"nested":   {samples["nested"], []described{{"profile a", "profile", "a", "a", 1, map[string]string{"s3": "", "region": "x"}}}},
		"comments": {samples["comments"], []described{{"profile a", "profile", "a", "a", 3, map[string]string{"region": "x", "output": "json"}}}},
		"quoted": {samples["quoted"], []described{
			{`profile "with space"`, "profile", "with space", "with space", 1, map[string]string{"region": "x"}},
			{"profile 'single'", "profile", "single", "single", 3, map[string]string{}}, {`profile "open`, "profile", `"open`, `"open`, 4, map[string]string{}}}},
		"other sections": {"[sso-session corp]\nregion = x\n[okta]\n[profile]\n[profile ]\n[profile a b]\n[ default ]\n[profile default]\n[profiles x]\n", []described{
			{"sso-session corp", "sso-session", "corp", "", 1, map[string]string{"region": "x"}}, {"okta", "", "okta", "", 3, map[string]string{}},
			{"profile", "", "profile", "", 4, map[string]string{}}, {"profile", "", "profile", "", 5, map[string]string{}},
			{"profile a b", "profile", "a b", "a b", 6, map[string]string{}}, {"default", "", "default", "default", 7, map[string]string{}},
			{"profile default", "profile", "default", "default", 8, map[string]string{}}, {"profiles x", "profiles", "x", "", 9, map[string]string{}}}},
		"the first of duplicates": {"[profile a]\nregion = x\nregion = y\n", []described{{"profile a", "profile", "a", "a", 1, map[string]string{"region": "x"}}}},
		"a colon, any case":       {"[profile a]\nREGION: x=y\n", []described{{"profile a", "profile", "a", "a", 1, map[string]string{"region": "x=y"}}}},
		"part of a value":         {samples["bracket in indent"], []described{{"profile a", "profile", "a", "a", 1, map[string]string{"s3": "", "region": "x"}}}},
		"an indented key":         {"[profile a]\n  region = x\n   output = no\n  s3 = y\n", []described{{"profile a", "profile", "a", "a", 1, map[string]string{"region": "x", "s3": "y"}}}},
		"before all sections":     {"region = x\ngarbage\n", nil},
		"comment in a value":      {"[profile a]\nregion = a#b\noutput = a;b #c\ns3 = # all\n", []described{{"profile a", "profile", "a", "a", 1, map[string]string{"region": "a#b", "output": "a;b", "s3": "# all"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, describe(Parse([]byte(tt.text)), "region", "output", "s3", "role_arn")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	for name, tt := range map[string]struct{ env, config, credentials string }{
		"default":   {"HOME=/home/me", "/home/me/.aws/config", "/home/me/.aws/credentials"},
		"set":       {"HOME=/home/me AWS_CONFIG_FILE=/etc/c AWS_SHARED_CREDENTIALS_FILE=/etc/k", "/etc/c", "/etc/k"},
		"from home": {"HOME=/home/me AWS_CONFIG_FILE=~/c AWS_SHARED_CREDENTIALS_FILE=~/k", "/home/me/c", "/home/me/k"},
	} {
		env := environment(tt.env)
		config, err := ConfigPath(env)
		if err != nil || config != tt.config {
			t.Errorf("%s: %q, %v", name, config, err)
		}
		if credentials, err := CredentialsPath(env); err != nil || credentials != tt.credentials {
			t.Errorf("%s: %q, %v", name, credentials, err)
		}
	}
}

// environment is NAME=VALUE, separated by spaces.
func environment(text string) func(string) string {
	vars := map[string]string{}
	for _, kv := range strings.Fields(text) {
		name, value, _ := strings.Cut(kv, "=")
		vars[name] = value
	}
	return func(name string) string { return vars[name] }
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
