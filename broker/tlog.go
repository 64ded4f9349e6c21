package broker

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
)

// prefix is the log's own, below which C2SP tlog-tiles lays out checkpoint and tiles.
const prefix = "/tlog/"

// routeEntries is the part of api.RouteTile that needs a session.
const routeEntries = prefix + "tile/entries/{path...}"

// idEvent may stand before an event's ID, as it stands before those of others.
const idEvent = "evt_"

// Hash tiles above the lowest level cost a look-up for each hash, and a log has one of them for 256
// of the lowest: an address may have so many a second, and so many at once.
const (
	upperTileRate  = 20
	upperTileBurst = 200
)

// immutable lets caches keep what never changes.
const immutable = "public, max-age=31536000, immutable"

// logRows sends rows exactly as stored, for verification.
func (s *Server) logRows(ctx context.Context, c *call) (any, error) {
	from, to, err := s.sizes(ctx, c.request.URL.Query())
	if err != nil {
		return nil, err
	}
	op, stands := s.verifying(c, "log/rows", map[string]any{"from": from, "to": to})
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return effect{reply: stream(func(w http.ResponseWriter) {
			s.streamRows(ctx, w, c, stands, func(emit func(any) error) error {
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

// verifying is an operation for those who may verify the log, and whether its answer may go on.
func (s *Server) verifying(c *call, name string, details any) (operation, *standing) {
	build := func(c *call) operation {
		return operation{kind: audit.KindAuditRead, name: name, details: details,
			decide: s.request(c.session, policy.ActionVerifyLog, policy.Resource{Type: policy.TypeAuditLog, ID: "all"}, policy.Context{Source: c.source.String()})}
	}
	return build(c), s.standing(c, authSession, s.mayStill(build))
}

// rolledUp is the first line of RouteRollups: how many events the rollups count.
type rolledUp struct {
	RolledUp int64 `json:"rolled_up"`
}

// rollups sends every rollup as stored, for verification.
func (s *Server) rollups(ctx context.Context, c *call) (any, error) {
	op, stands := s.verifying(c, "log/rollups", nil)
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return effect{reply: stream(func(w http.ResponseWriter) {
			s.streamRows(ctx, w, c, stands, func(emit func(any) error) error {
				upTo, rollups := s.Log.Rollups(ctx)
				err := emit(rolledUp{upTo})
				for r, readErr := range rollups {
					if err = errors.Join(err, readErr); err != nil {
						return err
					}
					err = emit(r)
				}
				return err
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
	return api.Consistency{From: from, To: to, Proof: onWire(proof)}, nil
}

func onWire(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// tileOf reads which tile is asked for, from the path as it was sent: a tile has one address.
func (s *Server) tileOf(c *call) (tlog.Tile, error) {
	path := strings.TrimPrefix(c.request.URL.EscapedPath(), prefix)
	t, err := audit.ParseTilePath(path)
	if _, tree := s.Log.Head(); err != nil || !audit.TileIn(t, tree.N) {
		return t, api.Errorf(api.KindNotFound, "the log of %d events has no %s", tree.N, printable(path, 64))
	}
	return t, nil
}

// tile answers a hash tile to anybody. A hash says nothing of its event, which has a random ID in it.
func (s *Server) tile(ctx context.Context, c *call) (any, error) {
	t, err := s.tileOf(c)
	if err != nil {
		return nil, err
	}
	if t.L > 0 {
		if err := s.limits.upperTile(c.source); err != nil {
			return nil, err
		}
	}
	data, err := tlog.ReadTileData(t, store.HashReader(ctx, s.Log))
	if err != nil {
		return nil, unavailable(err)
	}
	return stream(func(w http.ResponseWriter) {
		// What a cache would hand to others: a nonce that nobody else needs, an answer's ID, and a checkpoint
		// that grows old, which costs every client a proof of consistency.
		w.Header().Del(api.HeaderNonce)
		w.Header().Del(api.HeaderRequestID)
		w.Header().Set("Cache-Control", immutable)
		sizeOf(w, data)
		_, _ = unhurried(w).Write(data)
	}), nil
}

// upperTile takes one hash tile above the lowest level.
func (l *limiter) upperTile(a netip.Addr) error {
	return l.take("upper tiles for this address", network(a), upperTileRate, upperTileBurst)
}

// entries answers the envelopes of a tile to those who may verify the log.
func (s *Server) entries(ctx context.Context, c *call) (any, error) {
	t, err := s.tileOf(c)
	if err != nil {
		return nil, err
	}
	from := t.N << audit.TileHeight
	to := from + int64(t.W)
	op, stands := s.verifying(c, "log/entries", map[string]any{"from": from, "to": to})
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		data, err := s.bundle(ctx, from, to)
		return effect{reply: stream(func(w http.ResponseWriter) {
			s.stamp(w)
			sizeOf(w, data)
			if err := stands.copyBytes(ctx, unhurried(w), data); err != nil {
				s.Logger.Info("entries broke off", "request", c.id, "reason", err)
				panic(http.ErrAbortHandler) // the client must not take them for whole
			}
		})}, err
	}
	return s.perform(ctx, c, op)
}

// bundle reads the envelopes from..to-1 in the form of a tile; it is an error where one is not there.
func (s *Server) bundle(ctx context.Context, from, to int64) (data []byte, err error) {
	next := from
	for row, err := range s.Log.Rows(ctx, from, to) {
		if err != nil {
			return nil, unavailable(err)
		}
		if row.Index != next {
			break
		}
		if data, err = audit.AppendEntry(data, row.Body); err != nil {
			return nil, asProblem(err)
		}
		next++
	}
	if next != to {
		return nil, api.Errorf(api.KindInternal, "event %d is missing in the log", next).WithHint("run: sega audit verify")
	}
	return data, nil
}

func sizeOf(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
}

// proof answers an event with all that proves it: to those who may read events, and to everybody
// his own.
func (s *Server) proof(ctx context.Context, c *call) (any, error) {
	name := printable(c.request.PathValue("id"), 64)
	row, findErr := s.find(ctx, name)
	if findErr != nil && !errors.Is(findErr, store.ErrNoEvent) {
		return nil, unavailable(findErr)
	}
	r := s.readingOf(c, scopeAll)
	if !r.allowed && findErr == nil && c.did(row) {
		r = s.readingOf(c, scopeOwn)
	}
	op := operation{kind: audit.KindAuditRead, name: "events/" + r.scope, decide: r.decide, details: map[string]any{"proof": name, "content": r.content}}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		if findErr != nil { // told to those alone who may know
			return effect{denied: api.Errorf(api.KindNotFound, "there is no event %q", name).WithHint("run: sega audit query --json")}, nil
		}
		reply, err := s.prove(ctx, r, row)
		return effect{reply: reply}, err
	}
	return s.perform(ctx, c, op)
}

// find returns the event of an ID, with or without evt_ before it, or of an index.
func (s *Server) find(ctx context.Context, name string) (audit.Row, error) {
	name = strings.TrimPrefix(name, idEvent)
	if audit.CheckID(name) == nil {
		return s.Log.Event(ctx, name)
	}
	index, err := strconv.ParseInt(name, 10, 64)
	if err != nil || index < 0 || name != strconv.FormatInt(index, 10) {
		return audit.Row{}, store.ErrNoEvent
	}
	for row, err := range s.Log.Rows(ctx, index, index+1) {
		return row, err
	}
	return audit.Row{}, store.ErrNoEvent
}

// did reports whether the asker is the actor of an event, by its hashed bytes.
func (c *call) did(row audit.Row) bool {
	e, err := audit.Parse(row.Body)
	return err == nil && e.Actor.Kind == audit.ActorUser && e.Actor.Iss == c.session.Issuer && e.Actor.Sub == c.session.Subject
}

// prove proves a row in the latest checkpoint. Details are in the answer where all of them may be
// read: what is left of others would not match their digest.
func (s *Server) prove(ctx context.Context, r reading, row audit.Row) (any, error) {
	s.awaitTree(ctx, row.Index+1) // another broker may have appended it just now
	note, tree := s.Log.Head()
	if row.Index >= tree.N {
		return nil, api.Errorf(api.KindUnavailable, "event %d is not under a checkpoint yet", row.Index).WithHint("repeat in a second")
	}
	proof, err := store.ProveRecord(ctx, s.Log, row.Index, tree.N)
	if err != nil {
		return nil, unavailable(err)
	}
	out := api.Proof{Index: row.Index, Body: row.Body, Inclusion: onWire(proof), Checkpoint: note}
	if string(r.line(row).Details) == string(row.Details) {
		out.Salt, out.Details = row.Salt, row.Details
	}
	return out, nil
}

// sizes reads two sizes of the log. Who names one that another broker on the same database has just
// reached is let wait for it: that we do not know it would say that the log went back.
func (s *Server) sizes(ctx context.Context, q url.Values) (from, to int64, err error) {
	if _, to, err = parseRange(q, math.MaxInt64); err != nil {
		return 0, 0, err
	}
	return parseRange(q, s.awaitClaimed(ctx, to).N)
}

func parseRange(q url.Values, size int64) (from, to int64, err error) {
	p := params{v: q}
	from, to = p.number("from", 0, -1), p.number("to", 0, -1)
	if err := p.done(); err != nil {
		return 0, 0, err
	}
	if from < 0 || to < from || to > size {
		return 0, 0, api.Errorf(api.KindInvalid, "from and to are sizes of the log, now %d", size)
	}
	return from, to, nil
}
