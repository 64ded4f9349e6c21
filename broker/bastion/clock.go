package bastion

import (
	"fmt"
	"time"
)

// warnBefore is how long before its end a session's terminals are told of it.
const warnBefore = time.Minute

// watchClock enforces the session's own end and its idle limit, and says a minute before that it comes.
func (s *session) watchClock() {
	left := s.hop.NotAfter.Sub(s.b.cfg.Now())
	end := time.NewTimer(left)
	defer end.Stop()
	warning := time.NewTimer(left - warned(left))
	defer warning.Stop()
	limit := time.Duration(s.hop.IdleSeconds) * time.Second
	idle := time.NewTimer(limit - warned(limit))
	defer idle.Stop()
	if limit <= 0 {
		idle.Stop()
	}
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-warning.C:
			s.notice(fmt.Sprintf("this session ends in %s; connect again to get a new one", warned(left).Round(time.Second)))
		case <-end.C:
			s.cut(timeIsUp())
			return
		case <-idle.C:
			quiet := s.quietFor()
			switch left := limit - quiet; {
			case left <= 0:
				s.cut(idleTooLong(s.hop.IdleSeconds))
				return
			case left <= warned(limit):
				s.notice(fmt.Sprintf("nothing has moved for %s; this session ends in %s", quiet.Round(time.Second), left.Round(time.Second)))
				idle.Reset(left)
			default:
				idle.Reset(left - warned(limit))
			}
		}
	}
}

// quietFor returns for how long nothing has been recorded.
func (s *session) quietFor() time.Duration {
	return time.Since(s.started) - time.Duration(s.lastActive.Load())
}

// warned is how long before the end of a limit it is warned of: of a short one, half.
func warned(limit time.Duration) time.Duration { return min(warnBefore, limit/2) }
