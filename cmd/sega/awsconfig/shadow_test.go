package awsconfig

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestShadows(t *testing.T) {
	const ours = "[profile dev]\ncredential_process = sega credential-process dev\n"
	type found struct {
		File, Profile, Key string
		Line               int
		Over               Over
	}
	for name, tt := range map[string]struct {
		config, credentials string
		want                []found
	}{
		"neither file":          {"", "", nil},
		"nothing that wins":     {"[default]\nregion = x\noutput = json\n" + ours, "[other]\naws_access_key_id = x\n", nil},
		"keys of default":       {"", "[default]\naws_access_key_id = x\naws_secret_access_key = y\n", []found{{"credentials", "default", "aws_access_key_id", 2, OverEndpoint}}},
		"keys in the config":    {"# x\n[default]\n\naws_access_key_id = x\n", "", []found{{"config", "default", "aws_access_key_id", 4, OverEndpoint}}},
		"as a named profile":    {"[profile default]\nrole_arn = x\nsource_profile = y\n", "", []found{{"config", "default", "role_arn", 2, OverEndpoint}}},
		"a process":             {"[default]\ncredential_process = x\n", "", []found{{"config", "default", "credential_process", 2, OverEndpoint}}},
		"a token":               {"[default]\nweb_identity_token_file = x\n", "", []found{{"config", "default", "web_identity_token_file", 2, OverEndpoint}}},
		"a login":               {"[default]\nlogin_session = x\n", "", []found{{"config", "default", "login_session", 2, OverEndpoint}}},
		"one of SSO for all":    {"[default]\nsso_start_url = x\nsso_account_id = y\nsso_role_name = z\n", "", []found{{"config", "default", "sso_start_url", 2, OverEndpoint}}},
		"an SSO session alone":  {"[sso-session default]\nsso_start_url = x\n", "", nil},
		"a comment":             {"[default]\n# role_arn = x\n", "", nil},
		"nested":                {"[default]\ns3 =\n  role_arn = x\n", "", nil},
		"keys over the process": {ours, "[dev]\naws_access_key_id = x\n", []found{{"credentials", "dev", "aws_access_key_id", 2, OverProcess}}},
		"process over process":  {ours, "[dev]\ncredential_process = x\n", []found{{"credentials", "dev", "credential_process", 2, OverProcess}}},
		"role over the process": {ours + "role_arn = x\n", "", []found{{"config", "dev", "role_arn", 3, OverProcess}}},
		"in a second section":   {ours + "[profile dev]\naws_access_key_id = x\n", "", []found{{"config", "dev", "aws_access_key_id", 4, OverProcess}}},
		"endpoint first": {ours + "[default]\ncredential_process = x\n", "[dev]\naws_access_key_id = x\n[default]\naws_access_key_id = y\n", []found{
			{"config", "default", "credential_process", 4, OverEndpoint}, {"credentials", "default", "aws_access_key_id", 4, OverEndpoint},
			{"credentials", "dev", "aws_access_key_id", 2, OverProcess}, {"credentials", "default", "aws_access_key_id", 4, OverProcess}}},
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
			shadows, err := Shadows(environment("HOME=" + home))
			if err != nil {
				t.Fatal(err)
			}
			var got []found
			for _, s := range shadows {
				got = append(got, found{filepath.Base(s.File), s.Profile, s.Key, s.Line, s.Over})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestShadowsUnreadable: what cannot be looked at is not called free of shadows.
func TestShadowsUnreadable(t *testing.T) {
	dir := t.TempDir()
	if got, err := Shadows(environment("AWS_CONFIG_FILE=" + dir)); err == nil {
		t.Errorf("a folder in the file's place: %v", got)
	}
	if got, err := Shadows(environment("AWS_CONFIG_FILE=/nowhere AWS_SHARED_CREDENTIALS_FILE=" + dir)); err == nil {
		t.Errorf("a folder in the file's place: %v", got)
	}
}
