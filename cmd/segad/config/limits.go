package config

// SessionLimits bound the SSH sessions that are open at once. A key that is missing takes the broker's
// default; 0 is no limit.
type SessionLimits struct {
	PerPerson *int          `yaml:"per_person,omitempty"` // of one person, on all hosts together
	PerHost   *int          `yaml:"per_host,omitempty"`   // on one host, of everybody
	ByLabel   []LabelLimits `yaml:"by_label,omitempty"`
}

// LabelLimits hold beside the others for the hosts that have all of the labels.
type LabelLimits struct {
	Labels    map[string]string `yaml:"labels"`
	PerPerson int               `yaml:"per_person,omitempty"` // on all of these hosts together
	PerHost   int               `yaml:"per_host,omitempty"`   // on each of them
}
