package broker

import (
	"context"
	"strings"

	"golang.org/x/crypto/ssh"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// hopKey is what the broker remembers of a hop to a host without certificates: with it the host lets that one
// connection in, from the bastion's addresses and for as long as a certificate would have been good.
func (s *Server) hopKey(key ssh.PublicKey, r api.HopRequest, g hopGrant) state.HopKey {
	options := []string{"restrict", "pty"}
	for option, given := range map[string]bool{"port-forwarding": g.forwards.Ports, "agent-forwarding": g.forwards.Agent, "X11-forwarding": g.forwards.X11} {
		if given {
			options = append(options, option)
		}
	}
	return state.HopKey{Fingerprint: ssh.FingerprintSHA256(key), Line: sshca.MarshalLine(key), Host: g.host.Name, Login: r.Login, SessionID: g.id,
		From: strings.Join(g.bastion.Egress, ","), Options: strings.Join(options, ","), Expires: s.Now().Add(s.Times.HopCert)}
}

// hostKeys tells a host which keys open an account of it now: those of sessions that are being opened, and that
// nothing has ended. Its sshd asks at each login, so it is no event; ssh.hop was.
func (s *Server) hostKeys(ctx context.Context, c *call) (any, error) {
	login := c.request.PathValue("login")
	out := api.HostKeys{Keys: []api.HostKey{}}
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		h, err := s.stillHost(ctx, tx, c)
		if err != nil {
			return err
		}
		keys, err := state.HopKeys(ctx, tx, h.Name, login, s.Now())
		for _, k := range keys {
			out.Keys = append(out.Keys, api.HostKey{Key: k.Line, From: k.From, Options: k.Options, SessionID: k.SessionID, Expires: k.Expires})
		}
		return err
	})
	return out, unavailable(err)
}
