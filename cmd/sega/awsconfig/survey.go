package awsconfig

import "slices"

// Survey is what both files say of whom profiles ask for credentials.
type Survey struct {
	Profiles []string // all there are, sorted
	Ours     []string // those that sega keeps, sorted
	Rivals   []string // those of other tools, like "prod (aws-okta)", in the order of the file
}

// Look reads both files, and saml2aws's own. A file that does not exist has no profiles.
func Look(getenv func(string) string) (Survey, error) {
	config, err := load(ConfigPath, getenv)
	if err != nil {
		return Survey{}, err
	}
	credentials, err := load(CredentialsPath, getenv)
	if err != nil {
		return Survey{}, err
	}
	saml2aws, err := load(SAML2AWSPath, getenv)
	if err != nil {
		return Survey{}, err
	}
	var out Survey
	for _, s := range config.Sections {
		name := s.Profile()
		if name == "" {
			continue
		}
		out.Profiles = append(out.Profiles, name)
		if _, ours := s.Get(keyRole); ours {
			out.Ours = append(out.Ours, name)
		}
	}
	for _, s := range credentials.Sections {
		out.Profiles = append(out.Profiles, s.Title)
	}
	for _, r := range rivals(config.File, Others{Credentials: credentials.File, SAML2AWS: saml2aws.File}) {
		out.Rivals = append(out.Rivals, r.name+" ("+r.tool+")")
	}
	slices.Sort(out.Profiles)
	slices.Sort(out.Ours)
	out.Profiles, out.Ours = slices.Compact(out.Profiles), slices.Compact(out.Ours)
	return out, nil
}
