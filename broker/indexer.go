package broker

import (
	"context"
	"encoding/json"
	"net/http"

	"sega/audit"
	"sega/audit/query"
	"sega/broker/api"
	"sega/broker/policy"
)

const (
	indexPage  = 100    // sessions that an indexer is told of at once
	indexHeads = 10_000 // of one session: a day of them, and a line that a client takes
)

// indexSessions tells an indexer of the sessions that have ended since, with what the log says of
// their recordings. It is asked every second, decides nothing and hands out no content: that a
// recording is fetched is the event.
func (s *Server) indexSessions(ctx context.Context, c *call) (any, error) {
	p := params{v: c.request.URL.Query()}
	after := p.number(api.ParamAfter, -1, -2)
	if err := p.done(); err != nil || after < -1 {
		return nil, api.Errorf(api.KindInvalid, "after is the index of the last session.end that was indexed, or -1")
	}
	if tree, err := s.treeWith(ctx, after+1); err != nil {
		return nil, err
	} else if after >= tree.N { // sessions that end now would be passed over
		return nil, api.Errorf(api.KindConflict, "the broker's log has %d events and no session.end of index %d", tree.N, after).
			WithHint("check the broker's log.recovery events, then restart the indexer with --accept-new-log")
	}
	page, err := s.endedSessions(ctx, after)
	if err != nil {
		return nil, unavailable(err)
	}
	return stream(func(w http.ResponseWriter) {
		s.streamRows(ctx, w, c, s.standing(c, authIndexer, nil), func(emit func(any) error) error {
			for _, v := range page {
				if err := emit(v); err != nil {
					return err
				}
			}
			return nil
		})
	}), nil
}

func ofKind(kind string) query.Field {
	return query.Field{Name: query.Kind, Op: query.Equal, Value: kind}
}

// endedSessions returns the next page of sessions that have ended, in the order of their ends.
func (s *Server) endedSessions(ctx context.Context, after int64) ([]*api.IndexSession, error) {
	var page []*api.IndexSession
	of := map[string][]*api.IndexSession{}
	for row, err := range s.Log.Search(ctx, query.Query{Where: ofKind(audit.KindSessionEnd), After: after, Limit: indexPage}) {
		if err != nil {
			return nil, err
		}
		e, err := audit.Parse(row.Body)
		if err != nil {
			return nil, err
		}
		v := &api.IndexSession{Index: row.Index, SessionID: e.SessionID, End: row.Details, Heads: []json.RawMessage{}}
		page, of[e.SessionID] = append(page, v), append(of[e.SessionID], v)
	}
	if len(page) == 0 {
		return nil, nil
	}
	first, err := s.addStarts(ctx, page)
	if err != nil {
		return nil, err
	}
	return page, s.addHeads(ctx, of, first, page[len(page)-1].Index)
}

// addStarts adds what session.start says, and returns the index of the earliest.
func (s *Server) addStarts(ctx context.Context, page []*api.IndexSession) (first int64, err error) {
	first = page[0].Index
	for _, v := range page {
		where := query.And{ofKind(audit.KindSessionStart), query.Field{Name: query.Session, Value: v.SessionID}, query.Field{Name: query.Outcome, Value: string(audit.Success)}}
		for row, err := range s.Log.Search(ctx, query.Query{Where: where, After: -1, Before: v.Index, Limit: 1}) {
			if err != nil {
				return 0, err
			}
			v.Start, first = row.Details, min(first, row.Index)
		}
	}
	return first, nil
}

// addHeads adds the heads that were witnessed while the sessions lived, in one pass over all of them.
func (s *Server) addHeads(ctx context.Context, of map[string][]*api.IndexSession, from, to int64) error {
	for row, err := range s.Log.Search(ctx, query.Query{Where: ofKind(audit.KindRecordingHeads), After: from, Before: to}) {
		if err != nil {
			return err
		}
		var heads struct {
			Sessions []json.RawMessage `json:"sessions"`
		}
		if err := json.Unmarshal(row.Details, &heads); err != nil {
			s.Logger.Error("an event of recording.heads cannot be read", "index", row.Index, "error", err)
			continue
		}
		for _, head := range heads.Sessions {
			var id struct {
				ID string `json:"id"`
			}
			if json.Unmarshal(head, &id) != nil {
				continue
			}
			for _, v := range of[id.ID] {
				v.Heads = append(thin(v.Heads), head)
			}
		}
	}
	return nil
}

// thin drops every second head of a session that has very many. Each one commits to all before it.
func thin(heads []json.RawMessage) []json.RawMessage {
	if len(heads) < indexHeads {
		return heads
	}
	kept := heads[:0]
	for i := 1; i < len(heads); i += 2 {
		kept = append(kept, heads[i])
	}
	return kept
}

// indexRecording hands a recording to an indexer as it was stored: ciphertext, one event each.
func (s *Server) indexRecording(ctx context.Context, c *call) (any, error) {
	v := wanted{id: c.request.PathValue("id"), purpose: api.PurposeIndex}
	of, err := s.recordingOf(ctx, v.id)
	if err != nil {
		return nil, err
	}
	id := printable(v.id, 64)
	build := func(c *call) operation {
		op := s.onRecording(c, policy.ActionIndex, of, policy.Context{})
		op.kind, op.name, op.session, op.details = audit.KindRecordingRead, "recording/"+id, id, map[string]any{"purpose": v.purpose}
		return op
	}
	op := build(c)
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return s.sendRecording(ctx, c, v, of, s.standing(c, authIndexer, s.mayStill(build)))
	}
	return s.perform(ctx, c, op)
}
