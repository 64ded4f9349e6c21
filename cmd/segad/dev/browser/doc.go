// Package browser owns a scripted browser for the pages of dev/provider: it fetches, reads the
// forms that it is served, fills them in as a person would, and follows redirects up to the
// loopback page of a login. It knows no private endpoint, so that what it logs in through is what
// a person logs in through.
//
// It does not run scripts and opens no address but loopback.
//
// It serves the flow "log in" of docs/architecture.md in tests and in `segad dev`.
package browser
