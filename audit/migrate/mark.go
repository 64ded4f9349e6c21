package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store/backend"
)

// States of a database with a mark. The backends open neither.
const (
	stateArriving = "arriving" // complete, but its source may still go on
	stateGone     = "gone"     // what it was before it moved
)

// mark is the one row of the table moved, which exists during and after a move only.
type mark struct {
	state      string // "" : no mark
	id         string // of the move, the same at both ends
	place, at  string // the other end, and when
	tree       tlog.Tree
	checkpoint string // that the head has, or had
}

func newMark(id string, h backend.Head, now time.Time) mark {
	return mark{id: id, tree: h.Tree, at: now.UTC().Format(time.RFC3339), checkpoint: string(h.Checkpoint)}
}

// equals compares a head with that which moves: the same tree, signed by the same bytes.
func (m mark) equals(h backend.Head) error {
	if h.Tree != m.tree || string(h.Checkpoint) != m.checkpoint {
		return fmt.Errorf("the tree is %d %s, that which moves is %d %s, or the checkpoint is another", h.Tree.N, h.Tree.Hash, m.tree.N, m.tree.Hash)
	}
	return nil
}

func (m mark) with(state, place string) mark {
	m.state, m.place = state, place
	return m
}

// markDDL is in words that both backends know.
const markDDL = `CREATE TABLE moved (one BIGINT PRIMARY KEY, state TEXT NOT NULL, id TEXT NOT NULL, place TEXT NOT NULL, at TEXT NOT NULL,
	size BIGINT NOT NULL, root TEXT NOT NULL, checkpoint TEXT NOT NULL)`

func readMark(ctx context.Context, e End) (m mark, err error) {
	tables, err := e.Tables(ctx)
	if err != nil || tables["moved"] == nil {
		return mark{}, err
	}
	var root string
	err = e.QueryRowContext(ctx, `SELECT state, id, place, at, size, root, checkpoint FROM moved`).
		Scan(&m.state, &m.id, &m.place, &m.at, &m.tree.N, &root, &m.checkpoint)
	if err != nil {
		return mark{}, fmt.Errorf("read what an earlier move left: %w", err)
	}
	if m.tree.Hash, err = tlog.ParseHash(root); err != nil {
		return mark{}, fmt.Errorf("read what an earlier move left: %w", err)
	}
	return m, nil
}

func setMark(ctx context.Context, e End, m mark) error {
	if _, err := e.ExecContext(ctx, markDDL); err != nil {
		return err
	}
	_, err := e.ExecContext(ctx, `INSERT INTO moved (one, state, id, place, at, size, root, checkpoint) VALUES (1, ?, ?, ?, ?, ?, ?, ?)`,
		m.state, m.id, m.place, m.at, m.tree.N, m.tree.Hash.String(), m.checkpoint)
	return err
}

// leave takes the source's head away, so that not even a broker that runs already appends to it.
func leave(ctx context.Context, from End, m mark) error {
	if err := setMark(ctx, from, m); err != nil {
		return err
	}
	if _, err := from.ExecContext(ctx, `DELETE FROM head`); err != nil {
		return err
	}
	return from.Commit(ctx)
}

// goOn takes the target's mark away.
func goOn(ctx context.Context, c *Config, to End) error {
	_, err := to.ExecContext(ctx, `DROP TABLE moved`)
	if err == nil {
		err = to.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\nthe log has moved; run the same command again to let it go on there", c.To.Name, err)
	}
	c.at("done")
	return nil
}

// openSource locks the source. A mark of state gone is returned, for resume.
func openSource(ctx context.Context, c *Config) (End, mark, error) {
	if c.From.Name == c.To.Name {
		return nil, mark{}, fmt.Errorf("the log is at %s already", c.To.Name)
	}
	from, err := c.From.Open(ctx, false)
	if err != nil {
		return nil, mark{}, err
	}
	m, err := readMark(ctx, from)
	switch {
	case err != nil:
	case m.state == stateArriving:
		err = fmt.Errorf("the log has not wholly arrived here: its move from %s began %s and did not end\nrun the same segad audit migrate again", m.place, m.at)
	case m.state == stateGone && m.place != c.To.Name:
		err = fmt.Errorf("the log was moved to %s, %s\nset database to that place in the broker's configuration", m.place, m.at)
	case m.state == "":
		err = holdsLog(ctx, from)
	}
	if err != nil {
		return nil, mark{}, errors.Join(fmt.Errorf("%s: %w", c.From.Name, err), from.Close())
	}
	return from, m, nil
}

// holdsLog refuses a source without a log: an empty one would be made by Prepare.
func holdsLog(ctx context.Context, from End) error {
	tables, err := from.Tables(ctx)
	if err == nil && (tables["events"] == nil || tables["head"] == nil) {
		err = errors.New("there is no log")
	}
	return err
}

// openTarget locks the target, which must be empty.
func openTarget(ctx context.Context, c *Config, create bool) (End, error) {
	to, err := c.To.Open(ctx, create)
	if err != nil {
		return nil, err
	}
	empty, err := to.Empty(ctx)
	if err == nil && !empty {
		var m mark
		m, err = readMark(ctx, to)
		switch {
		case err != nil:
		case m.state == stateArriving && m.place == c.From.Name:
			err = fmt.Errorf("there is the copy of a move of %s that did not end; %s is whole and in force\nremove the copy (%s) and run the same command again", m.at, c.From.Name, c.To.Remove)
		default:
			err = errors.New("the target is not empty: a log moves to a database that holds nothing")
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.To.Name, err), to.Close())
	}
	return to, nil
}

// resume ends a move that was cut off when the source had left already.
func resume(ctx context.Context, c *Config, m mark) (err error) {
	to, err := c.To.Open(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	at, err := readMark(ctx, to)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", c.To.Name, err)
	case at.state == "":
		return fmt.Errorf("the log was moved to %s, %s, and goes on there\nset database to that place in the broker's configuration", m.place, m.at)
	case at.state != stateArriving || at.id != m.id:
		return fmt.Errorf("%s is not what the log of %s was moved to, %s: bring that database back", c.To.Name, c.From.Name, m.at)
	}
	c.tell("verifying %s", c.To.Name)
	h, err := verify(ctx, to, c.Verifier)
	if err == nil {
		err = m.equals(h)
	}
	if err != nil {
		return fmt.Errorf("%s does not hold what was moved: %w", c.To.Name, err)
	}
	return goOn(ctx, c, to)
}
