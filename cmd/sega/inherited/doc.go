// Package inherited owns what sega was started with and the Go runtime takes over before main: ignored
// and blocked signals, closed standard files, the environment as it was given. A program that sega
// becomes gets all of it back, as if sega had not been there.
//
// What there was is kept by entry, a few system calls that run before the runtime. The linker has to
// name it (-ldflags "-E sega/cmd/sega/inherited.entry", as the Makefile does). Without it, and elsewhere
// than on Linux on amd64 and arm64, nothing is known, and a program gets what Go leaves: ignored signals
// but SIGHUP and SIGINT are default again, closed standard files are /dev/null.
// It serves the flow "AWS credentials" of docs/architecture.md, and decides nothing.
package inherited
