package bastion

import (
	"errors"
	"syscall"
	"time"

	"sega/broker/api"
)

// retryFull is how often a write is tried again for which the disk had no room.
const retryFull = 200 * time.Millisecond

// patientFile is the spool of a session whose ladder may pause it while the disk is full. Its Write
// returns when all is written, as the recording wants it, so nothing is forwarded before that; what
// one attempt has written the next one does not repeat. Only what says that there is no room is
// waited for: after another error, and after a Sync that failed, nobody knows what is on the disk.
type patientFile struct {
	SpoolFile
	s *session
}

// Write implements io.Writer.
func (f *patientFile) Write(p []byte) (int, error) {
	done, err := f.SpoolFile.Write(p)
	if err == nil || !noRoom(err) || !f.s.isServing() || f.s.rung(api.OnRecording).Do != api.DoPause {
		return done, err
	}
	f.s.b.reports.putAll(f.s.failed(api.OnRecording))
	tick := time.NewTicker(retryFull)
	defer tick.Stop()
	for noRoom(err) {
		select {
		case <-f.s.ctx.Done(): // cut, by whom or what ever, or out of patience
			return done, err
		case <-tick.C:
		}
		var n int
		n, err = f.SpoolFile.Write(p[done:])
		done += n
	}
	if err == nil {
		f.s.b.reports.putAll(f.s.mended(api.OnRecording))
	}
	return done, err
}

func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isServing reports whether the session has begun.
func (s *session) isServing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}
