package bastion

import (
	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// holder is who has signed a connection: the holder of an access certificate, or of a registered key, whom the
// broker knows by its fingerprint.
type holder struct {
	key   ssh.PublicKey    // as it was offered: the certificate, or the plain key
	cert  *ssh.Certificate // nil: a registered key
	login string           // ses_… of the certificate's login, key_… of the registered key
}

func certified(cert *ssh.Certificate) *holder {
	return &holder{key: cert, cert: cert, login: loginOf(cert)}
}

// serial is that of the certificate, 0 of a registered key.
func (h *holder) serial() uint64 {
	if h.cert == nil {
		return 0
	}
	return h.cert.Serial
}

// fingerprint is that of the key that has signed.
func (h *holder) fingerprint() string {
	if h.cert == nil {
		return ssh.FingerprintSHA256(h.key)
	}
	return ssh.FingerprintSHA256(h.cert.Key)
}

// loginOf returns the login (ses_…) of an access certificate.
func loginOf(cert *ssh.Certificate) string {
	id, err := sshca.ParseKeyID(cert.KeyId)
	if err != nil {
		return ""
	}
	return id.Session
}
