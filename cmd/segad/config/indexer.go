package config

import "time"

// Indexer is an indexer that may enrol.
type Indexer struct {
	Name      string `yaml:"name"`
	JoinToken string `yaml:"join_token,omitempty"` // path of a single-use token for its enrolment
}

// IndexerServer is the file of `segad indexer`.
type IndexerServer struct {
	Name      string        `yaml:"name"`
	Broker    string        `yaml:"broker"`
	CAFile    string        `yaml:"ca_file,omitempty"` // trust of the broker's certificate
	LogKey    string        `yaml:"log_key"`           // verifier key of the broker's log, pinned
	Data      string        `yaml:"data"`              // index, machine key, checkpoint; on an encrypted disk
	JoinToken string        `yaml:"join_token,omitempty"`
	Identity  string        `yaml:"identity"`       // path of the age identity of a recipient of recordings
	Poll      time.Duration `yaml:"poll,omitempty"` // how often ended sessions are asked for; a second where empty
}

// LoadIndexer reads the file of an indexer.
func LoadIndexer(path string) (IndexerServer, error) {
	var c IndexerServer
	err := load(path, &c)
	return c, err
}
