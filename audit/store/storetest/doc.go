// Package storetest is the conformance suite of store.Log: every backend of the audit log runs it.
// It owns what the contract's words mean, not how a backend fails; faults of a disk or a server are
// each backend's own tests.
//
// It serves the flow "every decision is an event" of docs/architecture.md.
package storetest
