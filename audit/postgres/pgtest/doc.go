// Package pgtest runs a private PostgreSQL server with durable settings, for tests and benchmarks
// and for environments to try things out. It listens on loopback and a Unix socket alone, and asks for a
// password that it made up itself. It owns the server's life, which includes a sudden death, and nothing of what is in it.
//
// It serves the tests of audit/postgres, and through it the flow "every decision is an event" of
// docs/architecture.md.
package pgtest
