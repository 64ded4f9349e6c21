package awsconfig

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Over is what a Shadow wins over.
type Over string

// What SDKs come to only after the keys of Shadows.
const (
	OverEndpoint Over = "endpoint" // the container endpoint of a child that names no profile
	OverProcess  Over = "process"  // the credential_process of the same profile
)

// Shadow is a property that gives an SDK credentials before it asks sega.
type Shadow struct {
	File    string `json:"file"`
	Section string `json:"section"` // as it stands in the brackets
	Profile string `json:"profile"`
	Key     string `json:"key"`
	Line    int    `json:"line"`
	Over    Over   `json:"over"`
}

// sources are the properties each of which makes an SDK look for credentials in a profile. Sources: botocore,
// credentials.py, create_credential_resolver; SDK for Go, config, resolveCredsFromProfile.
var sources = []string{"aws_access_key_id", "role_arn", "web_identity_token_file", "login_session", "credential_process"}

// source reports whether a property is one of them. Of sso_… any will do: SDKs differ in which they ask for.
func source(key string) bool { return slices.Contains(sources, key) || strings.HasPrefix(key, "sso_") }

// Shadows lists what in both files wins over sega, those of OverEndpoint first: every SDK asks a
// profile [default] before the container endpoint, and keys in ~/.aws/credentials before the
// credential_process of the same profile. A file that does not exist has none.
func Shadows(getenv func(string) string) ([]Shadow, error) {
	config, err := load(ConfigPath, getenv)
	if err != nil {
		return nil, err
	}
	credentials, err := load(CredentialsPath, getenv)
	if err != nil {
		return nil, err
	}
	processes := map[string]bool{}
	for _, s := range config.Sections {
		if _, ok := s.Get("credential_process"); ok {
			processes[s.Profile()] = true
		}
	}
	var all []Shadow
	for _, s := range config.Sections {
		if name := s.Profile(); name != "" {
			all = append(all, s.shadows(config.path, name, processes[name], "credential_process")...)
		}
	}
	for _, s := range credentials.Sections {
		all = append(all, s.shadows(credentials.path, s.Title, processes[s.Title], "")...)
	}
	return slices.Concat(over(all, OverEndpoint), over(all, OverProcess)), nil
}

// over are those that win over something.
func over(all []Shadow, what Over) (out []Shadow) {
	for _, s := range all {
		if s.Over == what {
			out = append(out, s)
		}
	}
	return out
}

// loaded is a file with its path.
type loaded struct {
	*File
	path string
}

// load reads a file; one that does not exist is empty.
func load(find func(func(string) string) (string, error), getenv func(string) string) (loaded, error) {
	path, err := find(getenv)
	if err != nil {
		return loaded{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return loaded{}, err
	}
	return loaded{Parse(data), path}, nil
}

// shadows are those of one section of a profile. process is whether ~/.aws/config gives the profile a
// credential_process, own the property of this section that is it.
func (s *Section) shadows(path, profile string, process bool, own string) (out []Shadow) {
	sso := false
	for _, l := range s.lines {
		if l.kind != property || !source(l.key()) {
			continue
		}
		if strings.HasPrefix(l.key(), "sso_") {
			if sso {
				continue // one of them stands for all
			}
			sso = true
		}
		one := Shadow{File: path, Section: s.Title, Profile: profile, Key: l.key(), Line: l.from}
		if profile == "default" {
			one.Over = OverEndpoint
			out = append(out, one)
		}
		if process && l.key() != own {
			one.Over = OverProcess
			out = append(out, one)
		}
	}
	return out
}
