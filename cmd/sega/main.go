// Command sega is the person's tool: log in once, then AWS credentials and SSH sessions simply
// work in the tools that one already uses; for security staff it stops access, for reviewers it
// finds, replays and verifies.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"sega/keychain/secret"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := secret.NoCore(); err != nil {
		fmt.Fprintf(os.Stderr, "sega: core files cannot be turned off: %v\n", err)
	}
	log.SetOutput(io.Discard) // libraries' talk is none of the person's
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], system())
	stop()
	os.Exit(code)
}
