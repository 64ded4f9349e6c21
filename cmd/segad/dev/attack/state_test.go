//go:build linux

package attack

import (
	"context"

	"sega/audit/store"
)

// count runs a query of one number over the broker's records.
func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	n := 0
	err := w.log.Read(w.t.Context(), func(ctx context.Context, tx store.Querier) error {
		return tx.QueryRowContext(ctx, query, args...).Scan(&n)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// unblockAll lifts every block, past all rules.
func (w *world) unblockAll() {
	w.t.Helper()
	_, err := w.log.Append(context.Background(), nil, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE subjects SET blocked=0`)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
