package awsconfig

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/google/go-cmp/cmp"
)

// botocore returns the profiles of a file as botocore reads them; ok is false where it refuses the file.
func botocore(t *testing.T, path string) (profiles map[string]map[string]any, ok bool) {
	t.Helper()
	out, err := exec.Command("/usr/bin/python3", "-c", `import json, sys
from botocore.configloader import load_config
from botocore.exceptions import ConfigParseError
try:
    print(json.dumps(load_config(sys.argv[1])["profiles"]))
except ConfigParseError:
    print("null")`, path).Output()
	if err != nil {
		t.Fatalf("botocore: %v", err)
	}
	if err := json.Unmarshal(out, &profiles); err != nil {
		t.Fatal(err)
	}
	return profiles, profiles != nil
}

// goReads is the credential_process of a profile as the SDK for Go reads it.
func goReads(t *testing.T, path, profile string) string {
	t.Helper()
	c, err := config.LoadSharedConfigProfile(t.Context(), profile, func(o *config.LoadSharedConfigOptions) {
		o.ConfigFiles, o.CredentialsFiles = []string{path}, []string{}
	})
	if err != nil {
		t.Error(err)
	}
	return c.CredentialProcess
}

// TestReaders has botocore and the SDK for Go read what Apply writes: they see the same commands, and
// what stood there before.
func TestReaders(t *testing.T) {
	p := Program{Path: `/opt/'both' "kinds"/sega`, Env: []string{"SEGA_HOME=/home/it's"}}
	for name, text := range map[string]string{
		"nothing": "", "usual": samples["usual"], "CRLF": samples["CRLF"], "nested": samples["nested"], "indented": samples["indented"],
		"comments": "# top\n[profile a]\n# mine\nregion = x\n; mine\n", "no newline": samples["no newline"], "nested last": "[profile a]\ns3 =\n  addressing_style = path",
		"other sections": "[sso-session corp]\nsso_region = x\n[services local]\ns3 =\n  endpoint_url = http://x\n[preview]\na = b\n",
	} {
		path := write(t, t.TempDir(), "config", text)
		want, ok := botocore(t, path)
		if !ok {
			t.Fatalf("%s: botocore refuses it", name)
		}
		if _, err := Edit(t.Context(), path, func(f *File) error {
			_, err := Apply(f, p, []Profile{{"dev", "dev", "eu-west-1"}, {"a/b@c:d", "ops", ""}}, true)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for profile, role := range map[string]string{"dev": "dev", "a/b@c:d": "ops"} {
			command, err := p.Command(role, "")
			if err != nil {
				t.Fatal(err)
			}
			want[profile] = map[string]any{"credential_process": command, "sega_role": role}
			if got := goReads(t, path, profile); got != command {
				t.Errorf("%s, %s: the SDK for Go reads %q", name, profile, got)
			}
		}
		want["dev"]["region"] = "eu-west-1"
		if diff := cmp.Diff(want, first(botocore(t, path))); diff != "" {
			t.Errorf("%s: botocore reads something else: %s", name, diff)
		}
	}
}

// TestCommandThroughGo: the SDK for Go takes quotes and comments off values; none of a command is one.
func TestCommandThroughGo(t *testing.T) {
	for _, part := range awkward {
		for _, env := range [][]string{nil, {"SEGA_HOME=/home/" + part}} {
			command, err := Program{Path: "/opt/" + part + "/sega", Env: env}.Command("dev", "")
			if err != nil {
				t.Fatal(err)
			}
			path := write(t, t.TempDir(), "config", "[profile dev]\ncredential_process = "+command+"\n")
			if got := goReads(t, path, "dev"); got != command {
				t.Errorf("%s is read as %s", command, got)
			}
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestParseAsBotocore: where botocore takes a file, sections and values are those that it finds.
func TestParseAsBotocore(t *testing.T) {
	taken := 0
	for name, text := range samples {
		if strings.Contains(text, "#") { // values end before a comment here, as other SDKs have it
			continue
		}
		want, ok := botocore(t, write(t, t.TempDir(), "config", text))
		if !ok {
			continue
		}
		taken++
		got := map[string]map[string]any{}
		for _, s := range Parse([]byte(text)).Sections {
			if _, ok := shellWords(s.Title); !ok || s.Profile() == "" {
				continue
			}
			values := map[string]any{}
			for _, l := range s.lines {
				if v, _ := s.Get(l.key()); l.kind == property {
					values[l.key()] = v
				}
			}
			got[s.Profile()] = values
		}
		for _, values := range want {
			for key, v := range values {
				if text, ok := v.(string); !ok || strings.Contains(text, "\n") {
					values[key] = strings.Split(text, "\n")[0] // of nested and folded values this package reads the first line
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if taken < 8 {
		t.Errorf("botocore takes only %d of the samples", taken)
	}
}
