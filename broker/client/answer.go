package client

import (
	"sega/broker/api"
	"sega/keychain/secret"
)

// unusable reports that an answer holds no secret, or only the mark of one that its sender
// marshalled without api.Revealer.
func unusable(s secret.Secret) bool { return s.Empty() || string(s.Reveal()) == secret.Redacted }

const noToken = "the broker's answer holds no session token"

// session passes a session that can be used.
func session(s api.Session, err error) (api.Session, error) {
	if err == nil && unusable(s.Token) {
		return api.Session{}, api.Errorf(api.KindInternal, noToken)
	}
	return s, err
}

func machineSession(s api.MachineSession, err error) (api.MachineSession, error) {
	if err == nil && unusable(s.Token) {
		return api.MachineSession{}, api.Errorf(api.KindInternal, noToken)
	}
	return s, err
}

// done drops an answer that says nothing but "done".
func done(_ api.Empty, err error) error { return err }
