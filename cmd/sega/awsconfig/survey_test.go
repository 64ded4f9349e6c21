package awsconfig

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLook(t *testing.T) {
	for name, tt := range map[string]struct {
		config, credentials string
		want                Survey
	}{
		"neither file": {"", "", Survey{}},
		"all kinds": {"[default]\nregion = x\n[profile dev]\ncredential_process = /bin/sega credential-process dev\nsega_role = dev\n[profile old]\ncredential_process = aws-okta cred-process old\n[sso-session x]\na = b\n[okta]\naws_saml_url = y\n",
			"[keys]\naws_access_key_id = canary\n[dev]\naws_access_key_id = canary\n", Survey{Profiles: []string{"default", "dev", "keys", "old"}, Ours: []string{"dev"}, Rivals: []string{"old (aws-okta)"}}},
		"garbage": {"\x00[[[\nprofile = x", "]", Survey{}},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			dir := filepath.Join(home, ".aws")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"config": tt.config, "credentials": tt.credentials} {
				if text != "" {
					write(t, dir, file, text)
				}
			}
			got, err := Look(environment("HOME=" + home))
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v, -want +got\n%s", err, diff)
			}
		})
	}
}
