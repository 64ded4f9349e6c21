package broker

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
)

// logRows sends rows exactly as stored, for verification.
func (s *Server) logRows(ctx context.Context, c *call) (any, error) {
	from, to, err := s.sizes(ctx, c.request.URL.Query())
	if err != nil {
		return nil, err
	}
	op := operation{kind: "audit.read", name: "log/rows", details: map[string]any{"from": from, "to": to},
		decide: s.request(c.session, policy.ActionVerifyLog, policy.Resource{Type: policy.TypeAuditLog, ID: "all"}, policy.Context{Source: c.source.String()})}
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return effect{reply: stream(func(w http.ResponseWriter) {
			s.streamRows(w, c, func(emit func(any) error) error {
				for row, err := range s.Log.Rows(ctx, from, to) {
					if err != nil {
						return err
					}
					if err := emit(api.LogRow{Index: row.Index, Body: row.Body, Salt: row.Salt, Details: row.Details, Columns: row.Columns, Leaf: row.Leaf}); err != nil {
						return err
					}
				}
				return nil
			})
		})}, nil
	}
	return s.perform(ctx, c, op)
}

// checkpoint answers the latest signed checkpoint to anybody: it is made to be witnessed.
func (s *Server) checkpoint(context.Context, *call) (any, error) {
	note, _ := s.Log.Head()
	return stream(func(w http.ResponseWriter) {
		s.stamp(w)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(note)
	}), nil
}

// consistency proves that the log of one size extends that of another.
func (s *Server) consistency(ctx context.Context, c *call) (any, error) {
	from, to, err := s.sizes(ctx, c.request.URL.Query())
	if err != nil {
		return nil, err
	}
	proof, err := store.Prove(ctx, s.Log, from, to)
	if err != nil {
		return nil, unavailable(err)
	}
	out := api.Consistency{From: from, To: to, Proof: [][]byte{}}
	for _, h := range proof {
		out.Proof = append(out.Proof, h[:])
	}
	return out, nil
}

// sizes reads two sizes of the log. Who names one that another broker on the same database has just
// reached is let wait for it: that we do not know it would say that the log went back.
func (s *Server) sizes(ctx context.Context, q url.Values) (from, to int64, err error) {
	if from, to, err = parseRange(q, math.MaxInt64); err != nil {
		return 0, 0, err
	}
	return parseRange(q, s.awaitTree(ctx, to).N)
}

func parseRange(q url.Values, size int64) (from, to int64, err error) {
	from, err1 := strconv.ParseInt(q.Get("from"), 10, 64)
	to, err2 := strconv.ParseInt(q.Get("to"), 10, 64)
	if err1 != nil || err2 != nil || from < 0 || to < from || to > size {
		return 0, 0, api.Errorf(api.KindInvalid, "from and to are sizes of the log, now %d", size)
	}
	return from, to, nil
}
