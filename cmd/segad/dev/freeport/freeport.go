// Package freeport finds ports of loopback for servers that are started a moment later.
package freeport

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strconv"
)

// Pick takes a port of 127.0.0.1 from below those that the kernel gives to whoever asks for any (32768 and up on
// Linux), at random and none of those that are given: nobody else gets it by chance until its server starts, nor
// between two starts.
func Pick(but ...int) (int, error) {
	const first, last = 15000, 32767
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(last-first+1))
		if err != nil {
			return 0, err
		}
		if port := first + int(n.Int64()); !slices.Contains(but, port) && Free(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port between %d and %d is free", first, last)
}

// Free reports whether nobody listens at a port of 127.0.0.1.
func Free(port int) bool {
	l, err := net.Listen("tcp", Address(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// Address is a port of 127.0.0.1 as HOST:PORT.
func Address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// test is the part of testing.TB that For needs; this package is part of the product, too.
type test interface {
	Helper()
	Fatal(args ...any)
}

// For is Pick for a test.
func For(t test, but ...int) int {
	t.Helper()
	port, err := Pick(but...)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
