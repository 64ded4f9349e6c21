package awsconfig

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	lockTime = 10 * time.Second
	lockPoll = 20 * time.Millisecond
)

var errBusy = errors.New("another sega configure is changing it")

// lock waits for the kernel's lock on a file, which dies with its process.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTime, fmt.Errorf("%s: %w", path, errBusy))
	defer cancel()
	unlock, err = lockFile(ctx, path)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	return unlock, err
}
