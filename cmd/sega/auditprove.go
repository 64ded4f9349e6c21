package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sega/audit"
)

// idEvent may stand before an event's ID, as ses_ and ssh_ do before others.
const idEvent = "evt_"

func newAuditProve(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{Use: "prove EVENT", Short: "Write a bundle that proves an event to anybody who holds the log's public key", Args: exactly("EVENT"),
		Example: "  sega audit prove 019a2c4e-7b1d-7c3a-9f10-0242ac120002 -o evidence.json\n  sega audit prove 4711 > evidence.json\n  sega audit verify evidence.json",
		Long: "Write an event, the proof that it is in the log, and the log's signed checkpoint into one file. Whoever has the log's public\n" +
			"key verifies it without the broker: sega audit verify FILE. EVENT is an event's ID, or its IDX in `sega audit query`.\n" +
			"Details are in it where you may read all of them. The file is checked, and its checkpoint held against what this machine\n" +
			"has seen of the log, before it is written.",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			b, err := s.proveEvent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.writeEvidence(file, b)
		}}
	c.Flags().StringVarP(&file, "output", "o", "", "file to write, which must not exist; default: stdout")
	return c
}

// proveEvent makes the bundle of an event, and checks it as whoever gets it will.
func (s *session) proveEvent(ctx context.Context, name string) (audit.Bundle, error) {
	p, err := s.EventProof(ctx, name)
	if err != nil {
		return audit.Bundle{}, err
	}
	origin, _, _ := strings.Cut(s.saved().LogKey, "+")
	b := audit.Bundle{Format: audit.BundleFormat, Origin: origin, Key: s.saved().LogKey, Index: p.Index, Event: p.Body, Salt: p.Salt, Details: p.Details,
		Inclusion: p.Inclusion, Checkpoint: string(p.Checkpoint)}
	proven, err := b.Verify(s.saved().LogKey)
	if err == nil {
		err = asked(name, proven)
	}
	if err != nil {
		return audit.Bundle{}, withHint(fmt.Errorf("the broker's proof of event %s is refused: %w", name, err), "find out what was changed: sega audit verify")
	}
	if err := s.witness.Observe(ctx, p.Checkpoint); err != nil {
		return audit.Bundle{}, withHint(err, "keep this machine's %s as evidence and tell the security staff", checkpointFile(s.saved().Origin))
	}
	return b, nil
}

// asked reports whether what was proven is what was asked for.
func asked(name string, p audit.Proven) error {
	if id := strings.TrimPrefix(name, idEvent); id == p.Event.ID || id == strconv.FormatInt(p.Index, 10) {
		return nil
	}
	return fmt.Errorf("it is of event %d (%s)", p.Index, p.Event.ID)
}

// writeEvidence writes to a new file, or to stdout: what is evidence is not overwritten.
func (a *app) writeEvidence(file string, b audit.Bundle) error {
	data, err := b.Marshal()
	if err != nil {
		return err
	}
	if file == "" {
		_, err := a.out.Write(data)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "wrote %s; it is verified anywhere by: sega audit verify --key '%s' %s\n", escape(file), escape(b.Key), escape(file))
	return nil
}
