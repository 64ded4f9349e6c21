// Package endpoint owns what AWS's SDKs ask over HTTP for credentials: the container credentials
// protocol (Server) and, on request, version 2 of EC2's instance metadata (Metadata). Both answer on
// this machine alone.
//
// It does not own the credentials: a Source gives them, and decides about caching and asking. It
// serves the flow "AWS credentials" of docs/architecture.md.
package endpoint
