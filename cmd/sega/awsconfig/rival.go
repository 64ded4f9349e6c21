package awsconfig

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Tools from which profiles are taken over.
const (
	awsOkta  = "aws-okta"
	awsVault = "aws-vault"
	saml2aws = "saml2aws"
)

// programs are those whose credential_process is taken over.
var programs = []string{awsOkta, awsVault, saml2aws, "okta-aws-cli", "granted", "assume"}

// oktaKeys only aws-okta knows.
var oktaKeys = []string{"aws_saml_url", "session_ttl", "assume_role_ttl", "mfa_provider", "mfa_factor_type", "okta_account_name", "okta_session_cookie_key"}

// rivalKeys are the properties that say what sega's command now says, or its broker: those of AWS for
// assuming a role, and the tools' own. Sources: aws-okta lib/config.go and provider.go, aws-vault USAGE.md.
var rivalKeys = append([]string{"role_arn", "source_profile", "mfa_serial", "external_id", "role_session_name", "duration_seconds", keyProcess,
	"include_profile", "parent_profile", "session_tags", "transitive_session_tags", "source_identity", "mfa_process"}, oktaKeys...)

// longest and shortest are the bounds of a duration in sega.
const (
	shortest = 15 * time.Minute
	longest  = 12 * time.Hour
)

// rival is a profile of another tool.
type rival struct {
	name     string
	tool     string
	section  *Section // nil where ~/.aws/config has none of the name
	arn      string   // of the role, or of the assumed role
	duration string   // as it stands there
}

// rivals finds profiles of other tools, in the order of the file; those that only saml2aws's own
// files know come last.
func rivals(f *File, others Others) (out []rival) {
	b := newBook(f)
	accounts := others.accounts()
	for _, s := range f.Sections {
		name := s.Profile()
		account, known := accounts[name]
		delete(accounts, name)
		if _, ours := s.Get(keyRole); name == "" || ours {
			continue
		}
		if r, ok := b.rival(s); ok {
			out = append(out, r)
		} else if known && !s.given() {
			account.section = s
			out = append(out, account)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		out = append(out, accounts[name])
	}
	return out
}

// given reports whether a section has credentials of some kind.
func (s *Section) given() bool {
	return slices.ContainsFunc(s.lines, func(l line) bool { return l.kind == property && source(l.key()) })
}

// book finds sections by the names under which others mention them.
type book map[string]*Section

func newBook(f *File) book {
	b := book{}
	for _, s := range f.Sections {
		name := s.Profile()
		if name == "" && s.Type == "" {
			name = s.Name // [okta]
		}
		if b[name] == nil {
			b[name] = s
		}
	}
	return b
}

func (b book) rival(s *Section) (rival, bool) {
	tool := b.tool(s)
	if tool == "" {
		return rival{}, false
	}
	r := rival{name: s.Profile(), tool: tool, section: s, arn: b.role(s)}
	for _, key := range []string{"assume_role_ttl", "session_ttl", "duration_seconds"} {
		if r.duration = b.inherited(s, key, "include_profile", "source_profile"); r.duration != "" {
			break
		}
	}
	return r, true
}

// tool is whose profile a section is; empty where it is nobody's that is known.
func (b book) tool(s *Section) string {
	if process, ok := s.Get(keyProcess); ok {
		if words, _ := shellWords(process); len(words) > 0 {
			name := strings.TrimSuffix(filepath.Base(words[0]), ".exe")
			if slices.Contains(programs, name) {
				return name
			}
		}
		return ""
	}
	if b.okta(s) {
		return awsOkta
	}
	_, source := s.Get("source_profile")
	if (source || b.inherited(s, "mfa_serial", "include_profile") != "") && b.role(s) != "" {
		return awsVault
	}
	return ""
}

// okta reports whether a section is aws-okta's, which looks for what a profile lacks in its source_profile
// and in [okta].
func (b book) okta(s *Section) bool {
	if b.inherited(s, "aws_saml_url", "source_profile") != "" || slices.ContainsFunc(oktaKeys, func(key string) bool { return s.find(key) > 0 }) {
		return true
	}
	common, arn := b["okta"], s.find("role_arn") > 0
	return arn && common != nil && common.find("aws_saml_url") > 0 && s.find("credential_source") < 0 && s.find("web_identity_token_file") < 0
}

// inherited is a property of a section or of those that it names by some of its own, in turn.
func (b book) inherited(s *Section, key string, by ...string) string {
	for range 10 { // or they name each other
		if v, ok := s.Get(key); ok {
			return v
		}
		var next *Section
		for _, link := range by {
			if name, ok := s.Get(link); ok && next == nil {
				next = b[name]
			}
		}
		if next == nil {
			return ""
		}
		s = next
	}
	return ""
}

// role is the ARN of a section's role: its own, or the one that its command names or whose profile
// that names.
func (b book) role(s *Section) string {
	if arn := b.inherited(s, "role_arn", "include_profile"); arn != "" {
		return arn
	}
	process, _ := s.Get(keyProcess)
	words, _ := shellWords(process)
	for _, w := range words[min(1, len(words)):] {
		_, value, _ := strings.Cut(w, "=") // --profile=NAME
		for _, name := range []string{w, value} {
			if strings.HasPrefix(name, "arn:") && strings.Contains(name, ":role/") {
				return name
			}
			if named := b[name]; named != nil && named != s {
				if arn := b.inherited(named, "role_arn", "include_profile"); arn != "" {
					return arn
				}
			}
		}
	}
	return ""
}

// Others are files of tools, and of AWS, that an import reads beside ~/.aws/config.
type Others struct {
	Credentials *File // ~/.aws/credentials
	SAML2AWS    *File // ~/.saml2aws
}

// accounts are saml2aws's profiles by name: those of its own file, and those whose credentials it has
// written. Sources: saml2aws pkg/cfg/cfg.go, pkg/awsconfig/awsconfig.go.
func (o Others) accounts() map[string]rival {
	out := map[string]rival{}
	for _, s := range o.SAML2AWS.Sections {
		name, ok := s.Get("aws_profile")
		if !ok || name == "" {
			continue
		}
		r := rival{name: name, tool: saml2aws}
		r.arn, _ = s.Get("role_arn")
		r.duration, _ = s.Get("aws_session_duration")
		out[name] = r
	}
	for _, s := range o.Credentials.Sections {
		principal, ok := s.Get("x_principal_arn")
		if !ok {
			continue
		}
		r, known := out[s.Title]
		if !known {
			r = rival{name: s.Title, tool: saml2aws}
		}
		if r.arn == "" {
			r.arn = principal
		}
		out[s.Title] = r
	}
	return out
}

// parseDuration reads how long credentials were to live: Go's notation or seconds.
func parseDuration(s string) (time.Duration, bool) {
	d, err := time.ParseDuration(s)
	if n, atoiErr := strconv.Atoi(s); atoiErr == nil {
		d, err = time.Duration(min(n, 1<<30))*time.Second, nil
	}
	return d, err == nil && d >= shortest && d <= longest && lifetime(s)
}
