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
	"slices"
	"syscall"

	"sega/cmd/sega/inherited"
	"sega/keychain/secret"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := secret.NoCore(); err != nil {
		fmt.Fprintf(os.Stderr, "sega: core files cannot be turned off: %v\n", err)
	}
	log.SetOutput(io.Discard) // libraries' talk is none of the person's
	ctx, stop := ended(os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], system())
	stop()
	os.Exit(code)
}

// ended returns a context that one of the signals ends, as cancelled by the person. One that was ignored or
// blocked when sega started stays so: a job in the background of a script is not to hear its Ctrl-C.
func ended(signals ...os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals = slices.DeleteFunc(signals, func(s os.Signal) bool { return inherited.Withheld(s.(syscall.Signal)) })
	if len(signals) == 0 {
		return ctx, func() { cancel(nil) }
	}
	got := make(chan os.Signal, 1)
	signal.Notify(got, signals...)
	go func() { // ends with the process, or with stop
		select {
		case <-got:
			cancel(errCancelled)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(got); cancel(nil) }
}
