package bastion

import (
	"errors"
	"time"

	"sega/audit"
	"sega/audit/recording"
)

type exitDetail struct {
	Channel uint32  `json:"channel"`
	Status  *uint32 `json:"status,omitempty"`
	Signal  string  `json:"signal,omitempty"`
}

const maxExits = 256 // listed in an event; the recording has them all

func (s *session) noteExit(channel uint32, e recording.Event) {
	d := exitDetail{Channel: channel, Signal: printable(clip(e.Signal))}
	if e.Type == recording.EventExit {
		d.Status = &e.Status
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.exits) < maxExits {
		s.exits = append(s.exits, d)
	}
}

type endDetail struct {
	Recording *recording.End `json:"recording,omitempty"`
	In        int64          `json:"bytes_in"`
	Out       int64          `json:"bytes_out"`
	Err       int64          `json:"bytes_err"`
	Exits     []exitDetail   `json:"exits,omitempty"`
	Opaque    int32          `json:"opaque,omitempty"` // forwarded connections that the recording holds, and nobody can read
	Seconds   float64        `json:"seconds"`
	Event     string         `json:"event,omitempty"`     // the revocation behind the end
	Cut       int64          `json:"cut_bytes,omitempty"` // behind the recording, set aside at the bastion
}

// finish closes the recording and queues the report of the session's end.
func (s *session) finish() {
	s.settleFiles()
	why := s.reason()
	head, err := s.rec.Close(why.reason)
	end, keep := s.rec.End(head), true
	if err := errors.Join(err, s.file.Close()); err != nil {
		s.b.cfg.Log.Error("recording not closed", "session", s.hop.SessionID, "error", err)
		end, keep = s.b.salvage(s.meta.SessionID)
		why = spoiled(why)
	}
	if keep && !s.b.uploadFirst(s.meta.SessionID, s.uploadRest) {
		keep, end, why = false, elsewhere(end), displaced(why)
		defer s.b.setAsideSpool(s.meta.SessionID) // once the end is queued, which needs its description
	}
	s.mu.Lock()
	exits := s.exits
	s.mu.Unlock()
	r := s.report(kindEnd, why.outcome, why.reason, endDetail{Recording: &end, In: s.in.Load(), Out: s.out.Load(),
		Err: s.errored.Load(), Exits: exits, Opaque: s.opaque.Load(), Seconds: time.Since(s.started).Seconds(), Event: why.event})
	r.ID = s.meta.EndID
	s.b.cfg.Log.Info("session ended", "session", s.hop.SessionID, "outcome", why.outcome, "reason", why.reason)
	if delivery := s.b.reports.put(r); keep {
		s.b.archive(s.meta.SessionID, delivery, s.uploadRest)
	}
}

// elsewhere is the end of a recording whose place in the bucket others have taken: it is not there,
// so the log does not call it complete. Its head stands: by it the copy in quarantine can be judged.
func elsewhere(end recording.End) recording.End {
	if end.Verdict == recording.StatusComplete || end.Verdict == recording.StatusOmitted {
		end.Verdict = recording.StatusInterrupted
	}
	return end
}

// displaced says so in the event. A revocation stays one.
func displaced(why endReason) endReason {
	if why.outcome == audit.Success {
		why.outcome = audit.Failure
	}
	why.reason += takenReason
	return why
}

const takenReason = "; the storage holds other bytes in place of the recording, which was set aside at the bastion"

// spoiled keeps a revocation's outcome; any other end of a session whose recording is not whole is a failure.
func spoiled(why endReason) endReason {
	if why.outcome == audit.Success {
		why.outcome, why.reason = audit.Failure, why.reason+"; the recording is not whole"
	}
	return why
}
