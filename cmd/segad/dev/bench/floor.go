//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

// floor is the least that answers the requests of broker.cert: it takes their proofs as the broker does, by nonce and
// once, over the same HTTPS, and answers with nothing. It knows no session, decides, signs and writes nothing. Its
// rate is what the clients and this exchange leave of the machine's processors: no broker that they share is faster.
type floor struct {
	origin string
	nonces *dpop.Nonces
	seen   *dpop.Replay
}

// runFloor is the process of the floor, with the broker's certificate in a folder.
func runFloor(ctx context.Context, dir, listen string) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return err
	}
	f := floor{origin: "https://" + listen}
	if f.nonces, err = dpop.NewNonces(nil, 0, nil); err != nil {
		return err
	}
	if f.seen, err = dpop.NewReplay(0, f.nonces.Lifetime(), nil); err != nil {
		return err
	}
	web := &http.Server{Addr: listen, Handler: f, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer stop()
	if err := web.ListenAndServeTLS("", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (f floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(api.HeaderNonce, f.nonces.Issue())
	w.Header().Set("Content-Type", "application/json")
	_, err := io.Copy(io.Discard, r.Body)
	if err == nil {
		err = f.check(r)
	}
	if err != nil {
		problem := api.Errorf(api.KindUnauthenticated, "%v", err)
		if errors.Is(err, dpop.ErrNonce) {
			problem.Kind = api.KindNonce
		}
		w.WriteHeader(problem.Kind.Status())
		_ = json.NewEncoder(w).Encode(problem)
		return
	}
	_, _ = io.WriteString(w, "{}")
}

func (f floor) check(r *http.Request) error {
	proof, err := dpop.Parse(r.Header.Get(api.HeaderProof))
	if err != nil {
		return err
	}
	token := secret.FromString(strings.TrimPrefix(r.Header.Get("Authorization"), "DPoP "))
	return dpop.Check(proof, dpop.Want{Method: r.Method, HTU: f.origin + r.URL.EscapedPath(), ATH: dpop.ATH(token)}, f.nonces, f.seen)
}

// floorLoad is load for the floor.
func (b *bench) floorLoad(clients, calls int) (loaded, error) {
	e, err := b.environment()
	if err != nil {
		return loaded{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return loaded{}, err
	}
	listen, err := freeAddress()
	if err != nil {
		return loaded{}, err
	}
	c := exec.Command(self, "-floor", e.data, "-listen", listen)
	if err := startTied(c); err != nil {
		return loaded{}, err
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	if err := await(b.ctx, upTime, "the floor", func() error {
		conn, err := net.Dial("tcp", listen)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}); err != nil {
		return loaded{}, err
	}
	l := load{origin: "https://" + listen, route: api.RouteCertificate, good: emptied}
	for i := range clients {
		p, err := e.stranger(l.origin, net.IPv4(127, 0, 1, byte(1+i)))
		if err != nil {
			return loaded{}, err
		}
		defer p.http.CloseIdleConnections()
		l.people = append(l.people, p)
	}
	return l.run(b.ctx, calls, certificateRequest, c.Process.Pid, c.Process.Pid)
}

// emptied holds that the floor has answered.
func emptied(_, answered []byte) error {
	if string(answered) != "{}" {
		return fmt.Errorf("the floor answers %.100q", answered)
	}
	return nil
}

// stranger is somebody without a login, who speaks to the floor as a person does to the broker.
func (e *environment) stranger(origin string, from net.IP) (*person, error) {
	roots, err := e.roots()
	if err != nil {
		return nil, err
	}
	key, err := dpop.GenerateKey()
	return &person{origin: origin, key: key, token: secret.FromString(api.NewID("sega_")), roots: roots, from: from, http: web(roots, from)}, err
}
