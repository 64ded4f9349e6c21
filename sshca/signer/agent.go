package signer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/sshagentkms"
	"go.step.sm/crypto/kms/uri"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentTime bounds one question to an agent: it may ask a person, who is not there.
const agentTime = signTime / 2

// openAgent opens a key of an ssh-agent, by its comment.
func openAgent(u *uri.URI, c Config) (opener, error) {
	comment, err := url.PathUnescape(u.Opaque)
	if err != nil || comment == "" {
		return nil, fmt.Errorf("%w: it names no comment of a key", ErrPlace)
	}
	socket := c.path(u.Get("socket"))
	if socket == "" {
		if socket = os.Getenv("SSH_AUTH_SOCK"); socket == "" {
			return nil, errors.New("no socket is named, and SSH_AUTH_SOCK is not set")
		}
	}
	name := schemeAgent + ":" + comment
	return func(ctx context.Context) (key, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			return key{}, err
		}
		k, err := agentKey(ctx, &patient{conn}, name)
		if err != nil {
			return key{}, errors.Join(err, conn.Close())
		}
		k.close = conn.Close
		return k, nil
	}, nil
}

func agentKey(ctx context.Context, conn net.Conn, name string) (key, error) {
	kms, err := sshagentkms.NewFromAgent(ctx, apiv1.Options{}, agent.NewClient(conn))
	if err != nil {
		return key{}, err
	}
	crypto, err := kms.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: name})
	if err != nil {
		return key{}, err
	}
	wrapped, ok := crypto.(*sshagentkms.WrappedSSHSigner)
	if !ok {
		return key{}, errors.New("the agent's key is none of SSH")
	}
	var s ssh.Signer = wrapped.Signer
	return key{Signer: s}, nil
}

// patient is a connection on which each question is answered in time.
type patient struct{ net.Conn }

// Write begins a question.
func (p *patient) Write(b []byte) (int, error) {
	if err := p.SetDeadline(time.Now().Add(agentTime)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}
