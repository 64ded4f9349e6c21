package sts

import (
	"net/http"
	"slices"
	"time"
)

// Call is what the double remembers of a request. It holds no secret.
type Call struct {
	Time        time.Time
	RequestID   string
	Action      string // empty where the request was refused before it was read
	Caller      string // ARN, or provider ARN:aud:sub of a token; empty where signature or token was refused
	AccessKeyID string // of the caller
	Code        string // of the refusal; empty: done

	// AssumeRole only.
	RoleARN, SessionName, SourceIdentity, ExternalID string
	Duration                                         time.Duration
	Tags                                             map[string]string
	TransitiveTagKeys                                []string
	Policy                                           string   // session policy
	PolicyARNs                                       []string // managed session policies
	Issued                                           string   // access key ID of the new session
}

// maxCalls bounds what a long-running double remembers.
const maxCalls = 10000

func (c *Call) fill(a assumption) {
	c.RoleARN, c.SessionName, c.SourceIdentity, c.ExternalID = a.roleARN, a.sessionName, a.sourceIdentity, a.externalID
	c.Duration, c.TransitiveTagKeys = a.duration, a.transitive
	c.Policy, c.PolicyARNs = a.policy, a.policyARNs
	c.Tags = make(map[string]string, len(a.tags))
	for _, t := range a.tags {
		c.Tags[t.Key] = t.Value
	}
}

func (s *Server) record(c Call) {
	c.Time = s.cfg.Now()
	s.mu.Lock()
	if len(s.calls) == maxCalls {
		s.calls = slices.Delete(s.calls, 0, maxCalls/2)
	}
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	s.cfg.Log.Info("call", "request_id", c.RequestID, "action", c.Action, "caller", c.Caller, "role", c.RoleARN,
		"session_name", c.SessionName, "source_identity", c.SourceIdentity, "code", c.Code)
}

// Calls returns the latest calls (10,000 at most), oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// AssumeRoleCalls returns how many AssumeRole calls arrived, refused ones included; injected
// faults are not counted, because they were never read.
func (s *Server) AssumeRoleCalls() int {
	n := 0
	for _, c := range s.Calls() {
		if c.Action == "AssumeRole" {
			n++
		}
	}
	return n
}

// Faults that are no error code of AWS.
const (
	FaultHang = "hang" // no answer until the client gives up
	FaultDrop = "drop" // the call is done and recorded, and the connection cut before the answer
)

// injected is a fault for the next requests.
type injected struct {
	code   string
	status int
	times  int
}

// FailNext makes the next requests fail, whatever they ask and whoever asks: with an error code of
// AWS and an HTTP status, with an empty body where code is empty, or with FaultHang or FaultDrop.
// Faults queue up behind each other.
func (s *Server) FailNext(code string, httpStatus, times int) {
	if times < 1 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, injected{code, httpStatus, times})
}

func (s *Server) takeFault() (injected, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 {
		return injected{}, false
	}
	hit := s.faults[0]
	if s.faults[0].times--; s.faults[0].times == 0 {
		s.faults = s.faults[1:]
	}
	return hit, true
}

func (s *Server) inject(w http.ResponseWriter, r *http.Request, hit injected, requestID string) {
	switch hit.code {
	case FaultHang:
		select {
		case <-r.Context().Done():
		case <-s.closing:
		}
		panic(http.ErrAbortHandler)
	case "":
		w.WriteHeader(hit.status)
	default:
		(&fault{hit.code, hit.status, "Injected: " + hit.code}).write(w, requestID)
	}
}
