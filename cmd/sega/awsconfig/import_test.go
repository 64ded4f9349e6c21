package awsconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const account = "arn:aws:iam::111111111111:role/"

var roles = []Role{
	{Name: "dev", ARN: account + "dev", Allowed: true}, {Name: "ops", ARN: account + "team/ops", Allowed: true},
	{Name: "prod", ARN: account + "prod", Why: `it needs group "oncall"`},
	{Name: "twin-a", ARN: account + "a/twin", Allowed: true}, {Name: "twin-b", ARN: account + "b/twin", Allowed: true},
}

// head begins a section that was taken over.
func head(name, role, duration, tool string) string {
	s := "[profile " + name + "]\n" + taken + "\ncredential_process = /bin/sega credential-process " + role
	if duration != "" {
		s += " --duration " + duration
	}
	s += "\nsega_role = " + role + "\n"
	if duration != "" {
		s += "sega_duration = " + duration + "\n"
	}
	return s + "sega_imported = " + tool + "\n"
}

func TestImport(t *testing.T) {
	for name, tt := range map[string]struct {
		config, credentials, saml string
		want                      string
		changes                   []Change
	}{
		"aws-okta": {config: "[okta]\naws_saml_url = home/aws/1\nassume_role_ttl = 1h\n\n[profile dev]\n# mine\naws_saml_url = home/aws/2\nrole_arn = " + account + "dev\nassume_role_ttl = 4h\nregion = eu-west-1\noutput = json # mine\n",
			want: "[okta]\naws_saml_url = home/aws/1\nassume_role_ttl = 1h\n\n" + head("dev", "dev", "4h", "aws-okta") +
				"# mine\n# before sega: aws_saml_url = home/aws/2\n# before sega: role_arn = " + account + "dev\n# before sega: assume_role_ttl = 4h\nregion = eu-west-1\noutput = json # mine\n",
			changes: []Change{{Imported, "dev", "dev", "from aws-okta"}}},
		"aws-okta, from its source": {config: "[okta]\naws_saml_url = x\nsession_ttl = 3600\n[profile dev]\nsource_profile = okta\nrole_arn = " + account + "dev\n",
			want:    "[okta]\naws_saml_url = x\nsession_ttl = 3600\n" + head("dev", "dev", "3600", "aws-okta") + "# before sega: source_profile = okta\n# before sega: role_arn = " + account + "dev\n",
			changes: []Change{{Imported, "dev", "dev", "from aws-okta"}}},
		"aws-okta, from [okta]": {config: "[okta]\naws_saml_url = x\n[profile dev]\nrole_arn = " + account + "dev\n",
			want: "[okta]\naws_saml_url = x\n" + head("dev", "dev", "", "aws-okta") + "# before sega: role_arn = " + account + "dev\n", changes: []Change{{Imported, "dev", "dev", "from aws-okta"}}},
		"aws-okta's process": {config: "[profile mine]\ncredential_process = /usr/bin/aws-okta cred-process dev\n[profile dev]\nrole_arn=" + account + "dev\naws_saml_url=x\n",
			want: head("mine", "dev", "", "aws-okta") + "# before sega: credential_process = /usr/bin/aws-okta cred-process dev\n" + head("dev", "dev", "", "aws-okta") +
				"# before sega: role_arn=" + account + "dev\n# before sega: aws_saml_url=x\n",
			changes: []Change{{Imported, "mine", "dev", "from aws-okta"}, {Imported, "dev", "dev", "from aws-okta"}}},
		"aws-vault": {config: "[profile base]\nregion = eu\nmfa_serial = arn:aws:iam::1:mfa/me\n[profile ops]\ninclude_profile = base\nrole_arn = " + account + "team/ops\nduration_seconds = 7200\n",
			want: "[profile base]\nregion = eu\nmfa_serial = arn:aws:iam::1:mfa/me\n" + head("ops", "ops", "7200", "aws-vault") + "region = eu\n# before sega: include_profile = base\n# before sega: role_arn = " +
				account + "team/ops\n# before sega: duration_seconds = 7200\n",
			changes: []Change{{Imported, "ops", "ops", "from aws-vault"}}},
		"aws-vault's process": {config: "[profile dev]\ncredential_process = aws-vault export --format=json dev-source\nregion = x\n[profile dev-source]\nrole_arn = " + account + "dev\nsource_profile = me\n[profile me]\nmfa_serial = x\n",
			want: head("dev", "dev", "", "aws-vault") + "# before sega: credential_process = aws-vault export --format=json dev-source\nregion = x\n" +
				head("dev-source", "dev", "", "aws-vault") + "# before sega: role_arn = " + account + "dev\n# before sega: source_profile = me\n[profile me]\nmfa_serial = x\n",
			changes: []Change{{Imported, "dev", "dev", "from aws-vault"}, {Imported, "dev-source", "dev", "from aws-vault"}}},
		"saml2aws": {saml: "[default]\naws_profile = work\nrole_arn = " + account + "dev\naws_session_duration = 3600\nurl = x\n",
			want: strings.NewReplacer("profile dev", "profile work", "process dev", "process dev --duration 3600").Replace(dev) + "sega_duration = 3600\nsega_imported = saml2aws\n", changes: []Change{{Imported, "work", "dev", "from saml2aws"}}},
		"saml2aws, a section": {config: "[profile work]\nregion = x\n", credentials: "[work]\naws_access_key_id = x\nx_principal_arn = arn:aws:sts::111111111111:assumed-role/ops/me\n",
			want: head("work", "ops", "", "saml2aws") + "region = x\n", changes: []Change{{Imported, "work", "ops", "from saml2aws"}}},
		"saml2aws's process": {config: "[profile dev]\ncredential_process = saml2aws login --credential-process --role " + account + "dev --profile dev\n",
			want: head("dev", "dev", "", "saml2aws") + "# before sega: credential_process = saml2aws login --credential-process --role " + account + "dev --profile dev\n", changes: []Change{{Imported, "dev", "dev", "from saml2aws"}}},
		"folded and indented": {config: "[profile dev]\n  role_arn =\n    " + account + "dev\n  source_profile = a\n  s3 =\n    x = y\n", want: "[profile dev]\n  role_arn =\n    " + account + "dev\n  source_profile = a\n  s3 =\n    x = y\n", changes: nil},
		"indented": {config: "[profile dev]\n  role_arn = " + account + "dev\n  source_profile = a\n   folded\n  # mine\n  s3 =\n    x = y\n",
			want:    "[profile dev]\n  " + strings.ReplaceAll(strings.TrimPrefix(head("dev", "dev", "", "aws-vault"), "[profile dev]\n"), "\n", "\n  ") + "# before sega: role_arn = " + account + "dev\n  # before sega: source_profile = a\n   # before sega: folded\n  # mine\n  s3 =\n    x = y\n",
			changes: []Change{{Imported, "dev", "dev", "from aws-vault"}}},
		"CRLF": {config: "[profile dev]\r\nrole_arn = " + account + "dev\r\nsource_profile = a",
			want:    strings.ReplaceAll(head("dev", "dev", "", "aws-vault")+"# before sega: role_arn = "+account+"dev\n", "\n", "\r\n") + "# before sega: source_profile = a",
			changes: []Change{{Imported, "dev", "dev", "from aws-vault"}}},
		"a duration that is none": {config: "[profile dev]\naws_saml_url = x\nrole_arn = " + account + "dev\nsession_ttl = 24h\n",
			want:    head("dev", "dev", "", "aws-okta") + "# before sega: aws_saml_url = x\n# before sega: role_arn = " + account + "dev\n# before sega: session_ttl = 24h\n",
			changes: []Change{{Imported, "dev", "dev", "from aws-okta, without its duration 24h"}}},
		"nobody's": {config: "[default]\naws_access_key_id = x\n[profile a]\nregion = x\n[profile sso]\nsso_session = x\n[profile ec2]\nrole_arn = " + account + "dev\ncredential_source = Ec2InstanceMetadata\n[profile web]\nrole_arn = " +
			account + "dev\nweb_identity_token_file = x\n[profile p]\ncredential_process = mytool x\n[profile hand]\ncredential_process = sega credential-process dev\n" + dev},
		"unmatched": {config: "[profile a]\nrole_arn = " + account + "none\nsource_profile = x\n[profile b]\nrole_arn = " + account + "prod\nsource_profile = x\n[profile c]\naws_saml_url = x\n[profile d]\ncredential_process = granted credential-process --profile d\n",
			credentials: "[e]\nx_principal_arn = arn:aws:sts::111111111111:assumed-role/twin/me\n[f]\nx_principal_arn = arn:aws:sts::222222222222:assumed-role/dev/me\n[a b]\nx_principal_arn = arn:aws:sts::111111111111:assumed-role/dev/me\n",
			changes: []Change{{Kept, "a", "", "of aws-vault: no role of the broker is " + account + "none"}, {Kept, "b", "", `of aws-vault: you may not use the role prod: it needs group "oncall"`},
				{Kept, "c", "", "of aws-okta: it names no role"}, {Kept, "d", "", "of granted: it names no role"}, {Kept, "a b", "", "of saml2aws: " + CheckName("a b").Error()},
				{Kept, "e", "", "of saml2aws: more than one role of the broker is arn:aws:sts::111111111111:assumed-role/twin/me"},
				{Kept, "f", "", "of saml2aws: no role of the broker is arn:aws:sts::222222222222:assumed-role/dev/me"}}},
		"names in a circle": {config: "[profile a]\ninclude_profile = b\nmfa_serial = x\n[profile b]\ninclude_profile = a\nmfa_serial = x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.want == "" {
				tt.want = tt.config
			}
			others := Others{Credentials: Parse([]byte(tt.credentials)), SAML2AWS: Parse([]byte(tt.saml))}
			f := Parse([]byte(tt.config))
			changes := Import(f, others, program, roles)
			if err := f.Sound(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, string(f.Bytes())); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.changes, changes); diff != "" {
				t.Error(diff)
			}
			again := Parse(f.Bytes())
			Import(again, others, program, roles)
			if string(again.Bytes()) != string(f.Bytes()) {
				t.Errorf("a second import makes\n%s", again.Bytes())
			}
			if strings.Contains(tt.config, "include_profile") { // the region that was inherited stays
				return
			}
			Restore(again)
			if err := again.Sound(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.config, string(again.Bytes())); diff != "" {
				t.Errorf("restored: %s", diff)
			}
		})
	}
}

// FuzzImport: whatever stands in a file, taking over and giving back leave it as it was, but for the end
// of its last line and a region that was another profile's.
func FuzzImport(f *testing.F) {
	for _, text := range samples {
		f.Add([]byte(text), []byte(""))
	}
	f.Add([]byte("[okta]\naws_saml_url = x\n[profile dev]\n  role_arn = "+account+"dev\n  source_profile = okta\n   folded\n\n# c\n[profile b]\n"), []byte("[dev]\nx_principal_arn = arn:aws:sts::111111111111:assumed-role/ops/me\n"))
	f.Add([]byte("[profile a]\r\ncredential_process = aws-vault export a --role="+account+"dev\r\nregion = x"), []byte("[default]\naws_profile = x\nrole_arn = "+account+"dev\n"))
	f.Fuzz(func(t *testing.T, data, other []byte) {
		text := string(data)
		if strings.Contains(text, was) || strings.Contains(text, "sega_") || strings.Contains(text, "include_profile") || strings.Contains(text, "sega configure") {
			return
		}
		file := Parse(data)
		others := Others{Credentials: Parse(other), SAML2AWS: Parse(other)}
		Import(file, others, program, roles)
		if file.Sound() != nil {
			return // refused
		}
		checkSteps(t, file, data)
		again := Parse(file.Bytes())
		Restore(again)
		if again.Sound() != nil {
			t.Errorf("%q cannot be restored", file.Bytes())
		}
		if got := string(again.Bytes()); strings.TrimRight(got, "\r\n") != strings.TrimRight(text, "\r\n") {
			t.Errorf("%q became %q, by\n%s", text, got, file.Bytes())
		}
	})
}

func TestRestoreRefuses(t *testing.T) {
	text := "[profile a]\ncredential_process = x\n  output = json\nsega_role = dev\nsega_imported = aws-okta\n"
	f := Parse([]byte(text))
	changes := Restore(f)
	if len(changes) != 1 || changes[0].Action != Refused || string(f.Bytes()) != text {
		t.Errorf("%v\n%s", changes, f.Bytes())
	}
}
