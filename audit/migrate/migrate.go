package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// End is a database whose log moves: one transaction, which nobody else's appends can enter.
// *sqlite.Move and *postgres.Move are such.
type End interface {
	store.Querier

	// Empty reports whether there is nothing at all. Prepare makes the tables there, and brings older ones up to date.
	Empty(ctx context.Context) (bool, error)
	Prepare(ctx context.Context) error

	// Tables are those that every backend has, with their columns in order; Derive makes the others anew.
	Tables(ctx context.Context) (map[string][]string, error)
	Derive(ctx context.Context) error

	// Rows yields int64, string, []byte and nil; those of events and tree in order. Insert stores them.
	Rows(ctx context.Context, table string, columns []string) iter.Seq2[[]any, error]
	Insert(ctx context.Context, table string, columns []string, rows iter.Seq2[[]any, error]) error

	// Commit ends the transaction, durably; Begin begins another one under the same lock. Close
	// drops what was not committed.
	Commit(ctx context.Context) error
	Begin(ctx context.Context) error
	Close() error
}

// Place is where a log is, or is to be.
type Place struct {
	Name   string // as people and the broker's configuration name it; no secret is in it
	Remove string // how people remove what is there, for an advice
	// Open locks the database. One that does not exist is made where create says so, else the error is fs.ErrNotExist.
	Open func(ctx context.Context, create bool) (End, error)
}

// Config is what a move needs.
type Config struct {
	From, To Place
	Verifier note.Verifier // of the log's key
	Now      func() time.Time
	Progress func(what string) // nil: nobody is told
	step     func(name string) // of tests: called between what may be cut off
}

func (c *Config) tell(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(fmt.Sprintf(format, args...))
	}
}

func (c *Config) at(step string) {
	if c.step != nil {
		c.step(step)
	}
}

// Plan is what a move would do.
type Plan struct {
	From, To string
	Tree     tlog.Tree
	Rows     map[string]int64 // of each table
	Resume   bool             // the log is at To already: what is left is to let it go on there
}

// Look says what Run would do, and changes nothing. Its errors are those of Run, but that the events
// are not verified.
func Look(ctx context.Context, c Config) (p Plan, err error) {
	from, mark, err := openSource(ctx, &c)
	if err != nil {
		return Plan{}, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	p = Plan{From: c.From.Name, To: c.To.Name}
	if mark.state == stateGone {
		p.Tree, p.Resume = mark.tree, true
		return p, nil
	}
	if err := from.Prepare(ctx); err != nil {
		return Plan{}, fmt.Errorf("%s: %w", c.From.Name, err)
	}
	h, err := readHead(ctx, from, c.Verifier)
	if err != nil {
		return Plan{}, fmt.Errorf("%s: %w", c.From.Name, err)
	}
	p.Tree = h.Tree
	if p.Rows, err = countRows(ctx, from); err != nil {
		return Plan{}, fmt.Errorf("%s: %w", c.From.Name, err)
	}
	to, err := openTarget(ctx, &c, false)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return Plan{}, err
	}
	return p, to.Close()
}

// Run moves the log, or ends the move that was cut off. When it returns nil, the log at To is whole,
// verified and free to go on, and that at From is not any more.
func Run(ctx context.Context, c Config) (tree tlog.Tree, err error) {
	from, mark, err := openSource(ctx, &c)
	if err != nil {
		return tlog.Tree{}, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if mark.state == stateGone {
		return mark.tree, resume(ctx, &c, mark)
	}
	if err := from.Prepare(ctx); err != nil {
		return tlog.Tree{}, fmt.Errorf("%s: %w", c.From.Name, err)
	}
	c.tell("verifying %s", c.From.Name)
	h, err := verify(ctx, from, c.Verifier)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%s is not sound and stays as it is: %w", c.From.Name, err)
	}
	to, err := openTarget(ctx, &c, true)
	if err != nil {
		return tlog.Tree{}, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return h.Tree, move(ctx, &c, from, to, newMark(audit.NewID(), h, c.Now()))
}

// move fills the target and hands the log over.
func move(ctx context.Context, c *Config, from, to End, m mark) error {
	if err := fill(ctx, c, from, to); err != nil {
		return err
	}
	c.at("filled")
	c.tell("verifying %s", c.To.Name)
	h, err := verify(ctx, to, c.Verifier)
	if err == nil {
		err = m.equals(h)
	}
	if err != nil {
		return fmt.Errorf("%s does not hold what was moved, and nothing was changed: %w", c.To.Name, err)
	}
	if err := setMark(ctx, to, m.with(stateArriving, c.From.Name)); err != nil {
		return fmt.Errorf("%s: %w", c.To.Name, err)
	}
	if err := to.Commit(ctx); err != nil {
		return fmt.Errorf("%s: commit: %w", c.To.Name, err)
	}
	c.at("arrived")
	if err := leave(ctx, from, m.with(stateGone, c.To.Name)); err != nil {
		return fmt.Errorf("%s: mark it as moved: %w\nthe log is not moved; run the same command again, it says what to do", c.From.Name, err)
	}
	c.at("left")
	if err := to.Begin(ctx); err != nil {
		return fmt.Errorf("%s: %w\nthe log has moved; run the same command again to let it go on there", c.To.Name, err)
	}
	return goOn(ctx, c, to)
}

// fill copies every table, and compares what arrived with what was sent.
func fill(ctx context.Context, c *Config, from, to End) error {
	if err := to.Prepare(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.To.Name, err)
	}
	tables, err := sameTables(ctx, c, from, to)
	if err != nil {
		return err
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		c.tell("copying %s", table)
		if err := copyTable(ctx, from, to, table, tables[table]); err != nil {
			return fmt.Errorf("copy table %s: %w", table, err)
		}
		c.at("copied " + table)
	}
	c.tell("deriving indexes")
	if err := to.Derive(ctx); err != nil {
		return fmt.Errorf("%s: derive indexes: %w", c.To.Name, err)
	}
	return nil
}

// sameTables returns the source's tables, all of which the target must know.
func sameTables(ctx context.Context, c *Config, from, to End) (map[string][]string, error) {
	tables, err := from.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.From.Name, err)
	}
	known, err := to.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.To.Name, err)
	}
	for table, columns := range tables {
		if !slices.Equal(slices.Sorted(slices.Values(columns)), slices.Sorted(slices.Values(known[table]))) {
			return nil, fmt.Errorf("table %s of %s is not the same at %s: it would be lost", table, c.From.Name, c.To.Name)
		}
	}
	return tables, nil
}

func copyTable(ctx context.Context, from, to End, table string, columns []string) error {
	if _, err := to.ExecContext(ctx, `DELETE FROM "`+table+`"`); err != nil { // what Prepare has put there
		return err
	}
	var sent, arrived digest
	if err := to.Insert(ctx, table, columns, sent.through(from.Rows(ctx, table, columns))); err != nil {
		return err
	}
	for _, err := range arrived.through(to.Rows(ctx, table, columns)) {
		if err != nil {
			return err
		}
	}
	if sent != arrived {
		return fmt.Errorf("%d rows were sent and %d arrived, or not as they were", sent.rows, arrived.rows)
	}
	return nil
}

func countRows(ctx context.Context, e End) (map[string]int64, error) {
	tables, err := e.Tables(ctx)
	if err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	for table := range tables {
		var n int64
		if err := e.QueryRowContext(ctx, `SELECT count(*) FROM "`+table+`"`).Scan(&n); err != nil {
			return nil, err
		}
		counts[table] = n
	}
	return counts, nil
}
