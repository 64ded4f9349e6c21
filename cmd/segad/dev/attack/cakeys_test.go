package attack

import (
	"golang.org/x/crypto/ssh"

	"sega/broker"
)

// caKeys are the keys of the four CAs, which an attacker of these tests may hold.
type caKeys struct{ Access, Hop, Front, Host ssh.Signer }

func (k caKeys) configured() broker.CAs {
	return broker.CAs{Access: []ssh.Signer{k.Access}, Hop: []ssh.Signer{k.Hop}, Front: []ssh.Signer{k.Front}, Host: []ssh.Signer{k.Host}}
}
