package awsconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkSteps holds a diff against the texts that it is between.
func checkSteps(t *testing.T, f *File, was []byte) {
	t.Helper()
	var old, fresh strings.Builder
	old.WriteString(f.mark)
	fresh.WriteString(f.mark)
	for _, s := range f.steps() {
		if s.sign != '+' {
			old.WriteString(s.text)
		}
		if s.sign != '-' {
			fresh.WriteString(s.text)
		}
	}
	if old.String() != string(was) || fresh.String() != string(f.Bytes()) {
		t.Errorf("the diff is between %q and %q, not %q and %q", old.String(), fresh.String(), was, f.Bytes())
	}
}

func TestDiff(t *testing.T) {
	for name, tt := range map[string]struct {
		text   string
		wanted []Profile
		want   string
	}{
		"nothing":    {dev, []Profile{{Name: "dev", Role: "dev"}}, ""},
		"a new file": {"", []Profile{{Name: "dev", Role: "dev"}}, "--- config\n+++ config\n@@ -0,0 +1,4 @@\n+[profile dev]\n+# made by: sega configure\n+credential_process = /bin/sega credential-process dev\n+sega_role = dev\n"},
		"a secret beside it": {"[default]\n  AWS_SECRET_ACCESS_KEY=canary\r\n", []Profile{{Name: "dev", Role: "dev"}},
			"--- config\n+++ config\n@@ -1,2 +1,7 @@\n [default]\n   AWS_SECRET_ACCESS_KEY = ***\r\n+\n+[profile dev]\n+# made by: sega configure\n+credential_process = /bin/sega credential-process dev\n+sega_role = dev\n"},
		"two places": {"1\n2\n3\n4\n" + strings.Replace(dev, "/bin", "/old", 1) + "5\n6\n7\n8\n9\n[profile gone]\nsega_role = gone", []Profile{{Name: "dev", Role: "dev"}},
			"--- config\n+++ config\n@@ -4,7 +4,7 @@\n 4\n [profile dev]\n # made by: sega configure\n-credential_process = /old/sega credential-process dev\n+credential_process = /bin/sega credential-process dev\n sega_role = dev\n 5\n 6\n" +
				"@@ -11,5 +11,3 @@\n 7\n 8\n 9\n-[profile gone]\n-sega_role = gone\n\\ No newline at end of file\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := Parse([]byte(tt.text))
			if _, err := Apply(f, program, tt.wanted, true); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, f.Diff("config")); diff != "" {
				t.Error(diff)
			}
			checkSteps(t, f, []byte(tt.text))
		})
	}
}
