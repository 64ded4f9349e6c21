package main

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

var errAgentRefuses = errors.New("this agent only signs SSH user authentication")

// signOnly is an agent that lists its key and signs user authentication with it (RFC 4252 §7):
// nobody adds, removes, locks, or has anything else signed.
type signOnly struct{ ring agent.Agent }

func (a signOnly) List() ([]*agent.Key, error) { return a.ring.List() }

func (a signOnly) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	if !isUserAuth(data) {
		return nil, errAgentRefuses
	}
	return a.ring.Sign(key, data)
}

func (a signOnly) Add(agent.AddedKey) error       { return errAgentRefuses }
func (a signOnly) Remove(ssh.PublicKey) error     { return errAgentRefuses }
func (a signOnly) RemoveAll() error               { return errAgentRefuses }
func (a signOnly) Lock([]byte) error              { return errAgentRefuses }
func (a signOnly) Unlock([]byte) error            { return errAgentRefuses }
func (a signOnly) Signers() ([]ssh.Signer, error) { return nil, errAgentRefuses }

// isUserAuth reports whether data is what a client signs to log in: session identifier, then
// SSH_MSG_USERAUTH_REQUEST (50), user, "ssh-connection", "publickey" or OpenSSH's host-bound form.
func isUserAuth(data []byte) bool {
	session, rest, ok := sshString(data)
	if !ok || len(session) == 0 || len(rest) == 0 || rest[0] != 50 {
		return false
	}
	_, rest, ok = sshString(rest[1:])
	if !ok {
		return false
	}
	service, rest, ok := sshString(rest)
	if !ok || string(service) != "ssh-connection" {
		return false
	}
	method, rest, ok := sshString(rest)
	if !ok || !bytes.Equal(method, []byte("publickey")) && !bytes.Equal(method, []byte("publickey-hostbound-v00@openssh.com")) {
		return false
	}
	return len(rest) > 0 && rest[0] == 1
}

func sshString(in []byte) (s, rest []byte, ok bool) {
	if len(in) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(in)
	if uint64(n) > uint64(len(in)-4) {
		return nil, nil, false
	}
	return in[4 : 4+n], in[4+n:], true
}
