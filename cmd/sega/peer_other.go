//go:build !linux

package main

import "net"

// peerIsOurs cannot be told here: what protects the address is that it is good once.
func peerIsOurs(_, _ net.Addr) bool { return true }
