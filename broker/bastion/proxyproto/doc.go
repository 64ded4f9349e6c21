// Package proxyproto owns the header with which a proxy says for whom it connects: the PROXY protocol,
// versions 1 and 2 (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
//
// It owns no decision about who may send one: whoever listens reads a header from listed networks
// alone (design R13), and then always, for a header that may be missing is one that anybody may send.
//
// It serves the flow "ssh" of docs/architecture.md.
package proxyproto
