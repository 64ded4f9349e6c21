package config

// Issuer is the broker as an OIDC issuer, for roles in the mode web-identity.
type Issuer struct {
	URL        string   `yaml:"url,omitempty"`        // of the IAM OIDC provider; the origin where empty
	Keys       []string `yaml:"keys"`                 // paths of key files: the first signs, the others are published
	Passphrase string   `yaml:"passphrase,omitempty"` // path; that of the CAs where empty
}
