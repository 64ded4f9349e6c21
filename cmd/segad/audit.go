package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sega/audit/migrate"
	"sega/cmd/segad/config"
)

func newAudit() *cobra.Command {
	return group(&cobra.Command{Use: "audit", Short: "Keep the audit log", Example: "  segad audit migrate --config /etc/sega/broker.yaml --to postgres://sega@db.corp.example/sega?sslmode=verify-full"},
		newAuditMigrate())
}

// migrateOptions are the flags of `segad audit migrate`.
type migrateOptions struct {
	config, to, password string
	yes                  bool
}

func newAuditMigrate() *cobra.Command {
	var o migrateOptions
	c := &cobra.Command{Use: "migrate", Short: "Move log and state of a broker to another database", Args: exactly(0),
		Long: `Move the log, and the state beside it, from the database of a broker's configuration to another one: from
SQLite to PostgreSQL, or back. Stop every broker of that database first.

What arrives is the same byte for byte, with the same tree and the same signed checkpoint; all of it is recomputed
before the old database is given up. From then on no broker opens the old one. The configuration is not changed: set
its database (and database_password) to the new place, then start the broker. Whatever is cut off, the same command ends it or
says what to do.`,
		Example: `  segad audit migrate --config broker.yaml --to 'postgres://sega@db.corp.example/sega?sslmode=verify-full' --to-password /etc/sega/db.pass
  segad audit migrate --config broker.yaml --to sqlite:/var/lib/sega/sega.db --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runMigrate(cmd, o) }}
	c.Flags().StringVar(&o.config, "config", "", "configuration file of the broker (YAML)")
	c.Flags().StringVar(&o.to, "to", "", "where to: sqlite:PATH or a URL of PostgreSQL, as for the key database")
	c.Flags().StringVar(&o.password, "to-password", "", "file of the password for --to, mode 0600")
	c.Flags().BoolVar(&o.yes, "yes", false, "do it without asking")
	_ = c.MarkFlagRequired("config")
	_ = c.MarkFlagRequired("to")
	return c
}

func runMigrate(cmd *cobra.Command, o migrateOptions) error {
	move, err := moveConfig(o)
	if err != nil {
		return err
	}
	out := cmd.ErrOrStderr()
	move.Progress = func(what string) { fmt.Fprintln(out, "segad: "+what) }
	plan, err := migrate.Look(cmd.Context(), move)
	if err != nil {
		return err
	}
	showPlan(cmd.OutOrStdout(), plan)
	if err := confirm(cmd.Context(), o.yes); err != nil {
		return err
	}
	tree, err := migrate.Run(cmd.Context(), move)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "moved %d events, root %s\nset in the broker's configuration:\n  database: %s\n", tree.N, tree.Hash, plan.To)
	return nil
}

// moveConfig reads both ends. The key must be the log's: a log that another one signed does not move.
func moveConfig(o migrateOptions) (migrate.Config, error) {
	file, err := config.LoadBroker(o.config)
	if err != nil {
		return migrate.Config{}, err
	}
	key, err := openLogKey(o.config, file)
	if err != nil {
		return migrate.Config{}, err
	}
	from, err := openDatabase(o.config, file)
	if err != nil {
		return migrate.Config{}, err
	}
	// What stands on a command line is relative to where it is typed.
	to, err := openDatabase("./command-line", config.Broker{Database: o.to, DatabasePasswordFile: o.password})
	if err != nil {
		return migrate.Config{}, fmt.Errorf("--to: %w", err)
	}
	if to.SQLite, err = absolute(to.SQLite); err != nil {
		return migrate.Config{}, err
	}
	if from.SQLite, err = absolute(from.SQLite); err != nil {
		return migrate.Config{}, err
	}
	return migrate.Config{From: from.place(key), To: to.place(key), Verifier: key.Verifier(), Now: time.Now}, nil
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

func showPlan(w io.Writer, p migrate.Plan) {
	fmt.Fprintf(w, "from    %s\nto      %s\nevents  %d\nroot    %s\n", p.From, p.To, p.Tree.N, p.Tree.Hash)
	if p.Resume {
		fmt.Fprintln(w, "An earlier move was cut off when all had arrived. What is left: verify it there, and let it go on.")
		return
	}
	for _, table := range slices.Sorted(maps.Keys(p.Rows)) {
		fmt.Fprintf(w, "  %-16s %d rows\n", table, p.Rows[table])
	}
	fmt.Fprintln(w, "Afterwards no broker opens the database that it came from.")
}

var (
	errNotConfirmed = fmt.Errorf("%w: it asks for confirmation, there is no terminal, and nothing was changed; repeat it with --yes", errUsage)
	errDeclined     = errors.New("nothing was changed")
)

// confirm asks on the terminal; without one only --yes goes on.
func confirm(ctx context.Context, yes bool) error { return confirmStep(ctx, "Move it?", yes) }

func confirmStep(ctx context.Context, question string, yes bool) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errNotConfirmed
	}
	fmt.Fprint(os.Stderr, question+" [y/N] ")
	answer, err := bufio.NewReader(io.LimitReader(os.Stdin, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return ctx.Err()
	}
	return errDeclined
}
