package bastion

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// tcpPair is a connection over loopback.
func tcpPair(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if there, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = there.Close() })
	if here, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return here, there
}

// TestKeystrokeWaitsForNoFlusher: what is small arrives though nobody flushes.
func TestKeystrokeWaitsForNoFlusher(t *testing.T) {
	here, there := tcpPair(t)
	defer func() { _ = here.Close() }()
	b := &bufferedConn{Conn: here, network: true, shared: new(buffers)}
	b.changed = sync.NewCond(&b.mu)
	if err := there.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 36, keepBuffer - 1} {
		want := bytes.Repeat([]byte{'k'}, n)
		if _, err := b.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// TestNetworkKeepsEverythingInOrder: small writes overtake none that are queued, and Close sends all.
func TestNetworkKeepsEverythingInOrder(t *testing.T) {
	here, there := tcpPair(t)
	b := newBufferedConn(here, new(buffers))
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(there)
		got <- all
	}()
	sizes := rand.New(rand.NewPCG(0, 1))
	var want bytes.Buffer
	for i := range 4000 {
		p := bytes.Repeat([]byte{byte(i)}, 1+sizes.IntN(40))
		if i%3 == 0 {
			p = bytes.Repeat(p, 1000)
		}
		want.Write(p)
		if _, err := b.Write(p); err != nil {
			t.Fatal(err)
		}
		clear(p) // it is the caller's again
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, want.Bytes()) {
		t.Error("bytes were lost or moved")
	}
}

// TestStuckKeystrokeHoldsUpNothingElse: a peer that does not read holds up a small write, too. What is written meanwhile
// goes out behind it, and an end of the session waits for neither.
func TestStuckKeystrokeHoldsUpNothingElse(t *testing.T) {
	for name, end := range map[string]func(b *bufferedConn) (want string, left error){
		"it is read after all": func(*bufferedConn) (string, error) { return "first, second", nil },
		"the session is cut":   func(b *bufferedConn) (string, error) { b.Abort(); return "", io.ErrClosedPipe },
		"many are cut":         func(b *bufferedConn) (string, error) { b.Sever(); return "", os.ErrDeadlineExceeded },
		"the session ends": func(b *bufferedConn) (string, error) {
			_ = b.Close() // after a time, for nobody reads
			return "", io.ErrClosedPipe
		},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe() // holds no byte
			defer func() { _ = there.Close() }()
			b := newBufferedConn(here, new(buffers))
			b.network = true
			defer b.Abort()
			first := make(chan error, 1)
			go func() {
				_, err := b.Write([]byte("first, "))
				first <- err
			}()
			eventually(t, "a write that hangs", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.writing })
			if _, err := b.Write([]byte("second")); err != nil {
				t.Fatal(err)
			}
			want, left := end(b)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(there, got); err != nil || string(got) != want {
				t.Errorf("%q came, and %v", got, err)
			}
			if err := <-first; !errors.Is(err, left) {
				t.Errorf("the writer got %v", err)
			}
			if err := b.Close(); left == nil && err != nil {
				t.Error(err)
			}
			if _, err := b.Write([]byte("x")); err == nil {
				t.Error("an ended connection takes bytes")
			}
		})
	}
}
