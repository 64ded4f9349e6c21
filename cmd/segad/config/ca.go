package config

import "errors"

// CA names the keys of the four CAs, and the file of the passphrase of those that are files.
type CA struct {
	Access     Keys     `yaml:"access"`
	Hop        Keys     `yaml:"hop"`
	Front      Keys     `yaml:"front"`
	Host       Keys     `yaml:"host"`
	Passphrase string   `yaml:"passphrase,omitempty"`
	MoreAccess []string `yaml:"more_access,omitempty"` // public keys that are trusted beside, and never sign: offline, for emergencies
	MoreHop    []string `yaml:"more_hop,omitempty"`
	MoreFront  []string `yaml:"more_front,omitempty"`
	MoreHost   []string `yaml:"more_host,omitempty"`
}

// OperatorsSocket is the path of the Unix socket at which `segad ca` asks the running broker: beside the configuration where none is
// configured.
func (b Broker) OperatorsSocket(file string) string {
	if b.Operators == "" {
		return file + ".sock"
	}
	return Path(file, b.Operators)
}

// Keys are the places of keys that may sign for one CA. In the file they are one place or a list of them. Which one signs the
// database knows; where it knows none yet, the first one does.
type Keys []string

// UnmarshalYAML takes a text for a list of one.
func (k *Keys) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if err := unmarshal(&one); err == nil {
		*k = Keys{one}
		return k.check()
	}
	var many []string
	if err := unmarshal(&many); err != nil {
		return errors.New("want the place of a key, or a list of places")
	}
	*k = many
	return k.check()
}

func (k Keys) check() error {
	for _, place := range k {
		if place == "" {
			return errors.New("the place of a key is empty")
		}
	}
	return nil
}

// MarshalYAML writes one place as a text.
func (k Keys) MarshalYAML() (any, error) {
	if len(k) == 1 {
		return k[0], nil
	}
	return []string(k), nil
}
