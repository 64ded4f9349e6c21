//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wireTime bounds what a connection is used for, from its first byte to the last answer.
const wireTime = time.Minute

// headerTable is the size in bytes of HPACK's dynamic table where nobody asks for another (RFC 9113 §6.5.2).
const headerTable = 4096

// message is a request that waits to be sent.
type message struct {
	fields []hpack.HeaderField // beyond those that every request has
	body   []byte
}

// wire is one client's HTTP/2 connection on TLS 1.3. What it sends was put into frames before the clock starts, and what
// it gets is looked at after: within the clock a client costs its TLS and its frames, whichever server it asks. The
// headers are those that net/http would send, packed as it packs them (RFC 7541).
type wire struct {
	conn    *tls.Conn
	frames  *http2.Framer
	calls   [][]byte // the frames of each call
	answers []answer // to those that were made
}

// answer is a response as it came.
type answer struct {
	head []byte // its header block, packed
	body []byte
}

// dialWire connects to a server from an address.
func dialWire(ctx context.Context, origin string, roots *x509.CertPool, from net.IP) (*wire, error) {
	to, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: from}},
		Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, NextProtos: []string{http2.NextProtoTLS}}}
	c, err := dialer.DialContext(ctx, "tcp", to.Host)
	if err != nil {
		return nil, err
	}
	conn := c.(*tls.Conn)
	if got := conn.ConnectionState().NegotiatedProtocol; got != http2.NextProtoTLS {
		return nil, errors.Join(fmt.Errorf("%s speaks %q, not HTTP/2", origin, got), conn.Close())
	}
	w := &wire{conn: conn, frames: http2.NewFramer(conn, conn)}
	w.frames.SetReuseFrames()
	return w, conn.SetDeadline(time.Now().Add(wireTime))
}

// write puts the calls of a connection into frames.
func (w *wire) write(origin, route string, messages []message) error {
	to, err := url.Parse(origin)
	if err != nil {
		return err
	}
	var block bytes.Buffer
	pack := hpack.NewEncoder(&block)
	for i, m := range messages {
		block.Reset()
		fields := []hpack.HeaderField{{Name: ":authority", Value: to.Host}, {Name: ":method", Value: http.MethodPost}, {Name: ":path", Value: route}, {Name: ":scheme", Value: to.Scheme}}
		fields = append(fields, m.fields...)
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(m.body))},
			hpack.HeaderField{Name: "accept-encoding", Value: "gzip"}, hpack.HeaderField{Name: "user-agent", Value: "Go-http-client/2.0"})
		for _, f := range fields {
			if err := pack.WriteField(f); err != nil {
				return err
			}
		}
		var out bytes.Buffer
		frames, id := http2.NewFramer(&out, nil), uint32(1+2*i)
		if i == 0 {
			err = greet(&out, frames)
		}
		if err = errors.Join(err, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}), frames.WriteData(id, true, m.body)); err != nil {
			return err
		}
		w.calls = append(w.calls, out.Bytes())
	}
	return nil
}

// greet opens the connection with net/http's windows: a server's answers wait for none of ours.
func greet(out *bytes.Buffer, frames *http2.Framer) error {
	out.WriteString(http2.ClientPreface)
	return errors.Join(frames.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4 << 20}),
		frames.WriteWindowUpdate(0, 1<<30))
}

// call makes the next call.
func (w *wire) call() error {
	if _, err := w.conn.Write(w.calls[len(w.answers)]); err != nil {
		return err
	}
	var a answer
	for ended := false; !ended; {
		frame, err := w.frames.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			a.head, ended = bytes.Clone(f.HeaderBlockFragment()), f.StreamEnded()
		case *http2.DataFrame:
			a.body, ended = append(a.body, f.Data()...), f.StreamEnded()
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = w.frames.WriteSettingsAck()
			}
		case *http2.PingFrame:
			err = w.frames.WritePing(true, f.Data)
		case *http2.WindowUpdateFrame:
		default:
			err = fmt.Errorf("the server sends %v", f)
		}
		if err != nil {
			return err
		}
	}
	w.answers = append(w.answers, a)
	return nil
}

// bodies are those of the answers, each of which must be a success.
func (w *wire) bodies() (out [][]byte, err error) {
	unpack := hpack.NewDecoder(headerTable, nil)
	for _, a := range w.answers {
		fields, err := unpack.DecodeFull(a.head)
		if err != nil {
			return nil, err
		}
		for _, f := range fields {
			if f.Name == ":status" && !strings.HasPrefix(f.Value, "2") {
				return nil, fmt.Errorf("answered with %s: %.500s", f.Value, a.body)
			}
		}
		out = append(out, a.body)
	}
	return out, nil
}
