package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
	"sega/broker/client"
)

// startDetails are the details of session.start that a reader needs.
type startDetails struct {
	Host      string                  `json:"host"`
	Login     string                  `json:"login"`
	Route     string                  `json:"route"`
	Client    string                  `json:"client"`
	Recording *recording.Announcement `json:"recording"`
}

// endDetails are those of session.end.
type endDetails struct {
	Recording *recording.End `json:"recording"`
	In        int64          `json:"bytes_in"`
	Out       int64          `json:"bytes_out"`
	Err       int64          `json:"bytes_err"`
	Seconds   float64        `json:"seconds"`
	Exits     []exitDetails  `json:"exits"`
}

// exitDetails are how a program ended: by a status, or by a signal.
type exitDetails struct {
	Channel uint32  `json:"channel"`
	Status  *uint32 `json:"status"`
	Signal  string  `json:"signal"`
}

// commandDetails are those of session.command.
type commandDetails struct {
	Channel uint32 `json:"channel"`
	Type    string `json:"type"`
	Command string `json:"command"`

	Withheld bool `json:"withheld"` // the command is content, which the reader may not read
}

// headsDetails are those of recording.heads.
type headsDetails struct {
	Sessions []struct {
		ID string `json:"id"`
		recording.Head
	} `json:"sessions"`
}

// evidence is what the log says of one SSH session.
type evidence struct {
	id       string
	start    *audit.Event
	started  startDetails
	end      *audit.Event
	ended    endDetails
	heads    []recording.Head
	commands []command
	unlisted int   // commands beyond maxCommands
	lost     bool  // a bastion says that it has ended, and the log was restored from before it
	files    int64 // operations on files
	forwards int64 // forwards that were asked for
}

// maxCommands bounds what is kept of one session: who is recorded chooses how many there are.
const maxCommands = 10_000

type command struct {
	event   audit.Event
	details commandDetails
}

// collector gathers the evidence of sessions from events in the order of the log.
type collector struct {
	sessions map[string]*evidence
	order    []string
}

func newCollector() *collector { return &collector{sessions: map[string]*evidence{}} }

func (c *collector) of(id string) *evidence {
	v := c.sessions[id]
	if v == nil {
		v = &evidence{id: id}
		c.sessions[id], c.order = v, append(c.order, id)
	}
	return v
}

// add takes one event; the details of events that it needs must be readable.
func (c *collector) add(_ int64, e audit.Event) error {
	switch e.Kind {
	case "session.start":
		if e.Outcome != audit.Success {
			return nil
		}
		v := c.of(e.SessionID)
		if v.start != nil {
			return withKind(kindUnverified, fmt.Errorf("session %s starts a second time", e.SessionID))
		}
		v.start = &e
		return read(e, &v.started)
	case "session.end":
		v := c.of(e.SessionID)
		if v.end != nil {
			return withKind(kindUnverified, fmt.Errorf("session %s ends a second time", e.SessionID))
		}
		v.end = &e
		return read(e, &v.ended)
	case "session.lost":
		c.of(e.SessionID).lost = true
		return nil
	case "session.command":
		v, d := c.of(e.SessionID), commandDetails{}
		err := read(e, &d)
		if len(v.commands) < maxCommands {
			v.commands = append(v.commands, command{e, d})
		} else {
			v.unlisted++
		}
		return err
	case "recording.heads":
		var d headsDetails
		err := read(e, &d)
		for _, h := range d.Sessions {
			v := c.of(h.ID)
			v.heads = append(v.heads, h.Head)
		}
		return err
	}
	switch {
	case onFiles(e.Kind):
		c.of(e.SessionID).files++
	case e.Kind == "forward.open":
		c.of(e.SessionID).forwards++
	}
	return nil
}

func read(e audit.Event, v any) error {
	if len(e.Details) == 0 {
		return nil
	}
	if err := json.Unmarshal(e.Details, v); err != nil {
		return fmt.Errorf("details of %s do not have their form", e.Kind)
	}
	return nil
}

// recorded reports whether there must be a recording.
func (v *evidence) recorded() bool { return v.start != nil && v.started.Recording != nil }

// unannounced is the verdict where the log says nothing of a recording: there is nothing to hold one
// against.
const unannounced = "unannounced"

// judge verifies a recording against the log.
func (v *evidence) judge(r io.Reader) (recording.Verdict, error) {
	if !v.recorded() {
		return recording.Verdict{Status: unannounced, Detail: "the details of session.start are gone, or never told of a recording: nothing shows which one is true"}, nil
	}
	verdict, err := recording.Verify(r, *v.started.Recording, v.heads, v.ended.Recording)
	if verdict.Status == recording.StatusMissing && verdict.Detail == "" {
		verdict.Detail = v.lacks()
	}
	return verdict, err
}

// lacks is what there is none of where a recording is missing.
func (v *evidence) lacks() string {
	known := recording.Head{}
	if len(v.heads) > 0 {
		known = v.heads[len(v.heads)-1]
	}
	switch end := v.ended.Recording; {
	case end != nil && end.Verdict == recording.StatusMissing:
		return "nothing of it was ever stored, as the log says itself"
	case end != nil:
		known = end.Head
		known.Bytes += end.TailBytes
	case v.end == nil && len(v.heads) == 0:
		return "none of its objects is there, and the session has no end yet"
	case len(v.heads) == 0:
		return "none of its objects is there, and the log says nothing of how long it was"
	}
	return fmt.Sprintf("none of its objects is there; the log knows of %d segments, %d bytes", known.Segments, known.Bytes)
}

// sound reports whether a verdict leaves nothing to object to: complete, with content left out or
// interrupted where the log says so, or a session that lives.
func (v *evidence) sound(verdict recording.Verdict) bool {
	switch {
	case verdict.Status == recording.StatusComplete:
		return true
	case verdict.Status == recording.StatusOmitted:
		return v.end == nil || v.ended.Recording != nil && v.ended.Recording.Verdict == recording.StatusOmitted
	case verdict.Status == recording.StatusInterrupted:
		return v.end == nil || v.ended.Recording != nil && v.ended.Recording.Verdict == recording.StatusInterrupted
	case verdict.Status == recording.StatusMissing:
		return v.end == nil && len(v.heads) == 0 || v.ended.Recording != nil && v.ended.Recording.Verdict == recording.StatusMissing
	}
	return false
}

// download opens a session's recording; one that is not there is empty.
func (s *session) download(ctx context.Context, id, purpose, reason string) (io.ReadCloser, error) {
	r, err := s.Recording(ctx, client.RecordingRequest{ID: id, Purpose: purpose, Reason: reason})
	if api.IsKind(err, api.KindNotFound) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return r, err
}

// verdict downloads and judges the recording of a session.
func (s *session) verdict(ctx context.Context, v *evidence) (recording.Verdict, error) {
	if !v.recorded() {
		return v.judge(nil)
	}
	r, err := s.download(ctx, v.id, api.PurposeVerify, "")
	if err != nil {
		return recording.Verdict{}, err
	}
	defer func() { _ = r.Close() }()
	return v.judge(r)
}

// evidenceOf gathers one session's events. Heads are not asked for: they are of many sessions;
// `verify` holds recordings against them.
func (s *session) evidenceOf(ctx context.Context, id string) (*evidence, error) {
	if !strings.HasPrefix(id, api.IDSSH) {
		return nil, usagef("an SSH session's ID begins with %s; sessions: sega audit query --kind session.start; an event: sega audit query --json id:ID", api.IDSSH)
	}
	c := newCollector()
	for e, err := range s.Events(ctx, url.Values{api.ParamQuery: {"session:" + id}}) {
		if err != nil {
			return nil, err
		}
		v, err := audit.Parse(e.Envelope)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", e.Index, err)
		}
		v.Details = e.Details
		if err := c.add(e.Index, v); err != nil {
			return nil, fmt.Errorf("event %d: %w", e.Index, err)
		}
	}
	v := c.sessions[id]
	if v != nil && v.start == nil && v.lost {
		return nil, withKind(api.KindNotFound, withHint(errors.New("the log was restored from a backup that does not have the start of "+id+": whose it was nobody knows"),
			"what the bastion says of it: sega audit query session:%s --json; its recording is in the bucket, for a recipient's identity", id))
	}
	if v == nil || v.start == nil {
		return nil, withKind(api.KindNotFound, withHint(errors.New("no such session, or none that you may see: "+id), "run: sega audit query --kind session.start"))
	}
	return v, nil
}
