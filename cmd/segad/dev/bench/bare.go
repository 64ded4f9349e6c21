//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"
)

// bareConfig is the file of bareFile in the lab's folder.
const bareConfig = "bare.json"

// bareFile says where the bare proxy listens and where it leads.
type bareFile struct {
	Listen string `json:"listen"`
	Host   string `json:"host"` // host:port
	Login  string `json:"login"`
}

// bareProxy is the least that an SSH proxy of x/crypto/ssh does: it moves channels and requests to
// the host and asks, records and checks nothing. Only the lab's own key opens it.
type bareProxy struct {
	bareFile
	server *ssh.ServerConfig
	client *ssh.ClientConfig
}

func runBareProxy(ctx context.Context, dir string) error {
	var p bareProxy
	raw, err := os.ReadFile(filepath.Join(dir, bareConfig))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &p.bareFile); err != nil {
		return err
	}
	if err := p.configure(dir); err != nil {
		return err
	}
	l, err := net.Listen("tcp", p.Listen)
	if err != nil {
		return err
	}
	var conns sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			conns.Wait()
			return nil
		}
		if err != nil {
			return err
		}
		conns.Go(func() { p.serve(ctx, c) })
	}
}

func (p *bareProxy) configure(dir string) error {
	hostKey, err := readSigner(filepath.Join(dir, "bare-host"))
	if err != nil {
		return err
	}
	key, err := readSigner(filepath.Join(dir, "hop"))
	if err != nil {
		return err
	}
	line, err := os.ReadFile(filepath.Join(dir, "hop-cert.pub"))
	if err != nil {
		return err
	}
	parsed, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return err
	}
	cert, ok := parsed.(*ssh.Certificate)
	if !ok {
		return errors.New("hop-cert.pub is no certificate")
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		return err
	}
	common := ssh.Config{Ciphers: []string{cipher}, KeyExchanges: []string{keyExchange}}
	p.server = &ssh.ServerConfig{Config: common, PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(offered.Marshal(), cert.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	p.server.AddHostKey(hostKey)
	p.client = &ssh.ClientConfig{Config: common, User: p.Login, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	return nil
}

func readSigner(path string) (ssh.Signer, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(raw)
}

// serve proxies one connection; whatever fails ends it.
func (p *bareProxy) serve(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	from, chans, reqs, err := ssh.NewServerConn(c, p.server)
	if err != nil {
		_ = c.Close()
		return
	}
	defer func() { _ = from.Close() }()
	go ssh.DiscardRequests(reqs) // ends with the connection
	to, err := ssh.Dial("tcp", p.Host, p.client)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	var open sync.WaitGroup
	for nc := range chans {
		open.Go(func() { moveChannel(nc, to) })
	}
	open.Wait()
}

func moveChannel(nc ssh.NewChannel, to *ssh.Client) {
	host, hostReqs, err := to.OpenChannel(nc.ChannelType(), nc.ExtraData())
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "the host refuses")
		return
	}
	client, clientReqs, err := nc.Accept()
	if err != nil {
		_ = host.Close()
		return
	}
	var out, all sync.WaitGroup
	out.Go(func() { _, _ = io.Copy(client, host) })
	out.Go(func() { _, _ = io.Copy(client.Stderr(), host.Stderr()) })
	out.Go(func() { moveRequests(hostReqs, client) })
	all.Go(func() { _, _ = io.Copy(host, client); _ = host.CloseWrite() })
	all.Go(func() { moveRequests(clientReqs, host); _ = host.Close() })
	out.Wait()
	_ = client.Close()
	all.Wait()
}

func moveRequests(reqs <-chan *ssh.Request, to ssh.Channel) {
	for r := range reqs {
		ok, err := to.SendRequest(r.Type, r.WantReply, r.Payload)
		_ = r.Reply(ok && err == nil, nil)
	}
}
