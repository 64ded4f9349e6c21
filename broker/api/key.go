package api

import (
	"fmt"
	"time"
)

// KeyProof shows that somebody has the private half of a public key: an SSHSIG of the namespace
// ProofNamespace over ProofText, as `ssh-keygen -Y sign` makes it. Good once.
type KeyProof struct {
	Nonce     string `json:"nonce"` // of a DPoP-Nonce header of the broker, two minutes old at the most
	Signature string `json:"signature"`
}

// ProofNamespace keeps signatures made for sega apart from those made for files, commits and e-mails.
const ProofNamespace = "key-proof@sega"

// What a proof is for. One made for one of them is none for the other.
const (
	ProofRegister = "register" // to register the key
	ProofVerify   = "verify"   // to have it certified as one that has verified its user
)

// ProofText is what the key signs. It names all that the proof is for, so that it proves nothing elsewhere:
// purpose, the broker's origin as whoever signs knows it, the login (ses_…), the key's fingerprint.
func ProofText(purpose, origin, loginID, fingerprint, nonce string) []byte {
	return fmt.Appendf(nil, "sega key proof 1\npurpose %q\nbroker %q\nlogin %q\nkey %q\nnonce %q\n", purpose, origin, loginID, fingerprint, nonce)
}

// RegisterKeyRequest registers a public key of the caller's, good at bastions alone.
type RegisterKeyRequest struct {
	PublicKey string   `json:"public_key"` // authorized_keys form
	Name      string   `json:"name"`
	Seconds   int      `json:"seconds,omitempty"` // 0: as long as policy gives
	Proof     KeyProof `json:"proof"`             // for ProofRegister
}

// Key is a registered public key.
type Key struct {
	ID          string     `json:"id"` // key_…
	Name        string     `json:"name"`
	Type        string     `json:"type"` // as in its authorized_keys form
	Fingerprint string     `json:"fingerprint"`
	Person      Person     `json:"person"`
	Created     time.Time  `json:"created"`
	Expires     time.Time  `json:"expires"`
	Used        *time.Time `json:"used,omitempty"` // when it opened something last; absent: never
}

// ParamUser is the query parameter of GET RouteKeys: whose keys, as sega revoke user names people; "*" for
// everybody's, nothing for the caller's own.
const ParamUser = "user"

// Keys lists registered keys.
type Keys struct {
	Keys []Key `json:"keys"`
}
