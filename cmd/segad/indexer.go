package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"sega/audit/indexer"
	"sega/broker/api"
	"sega/broker/client"
	"sega/cmd/segad/config"
)

// Files in an indexer's data folder.
const (
	indexName      = "index.db"
	indexSpoolName = "spool"
)

// indexerRun is what `segad indexer` is asked for.
type indexerRun struct {
	config                string
	retry, status, newLog bool
}

func newIndexer() *cobra.Command {
	var o indexerRun
	c := &cobra.Command{Use: "indexer", Short: "Make what screens showed searchable, in the reviewers' zone", Args: exactly(0),
		Example: "  segad indexer --config /etc/sega/indexer.yaml\n  segad indexer --config /etc/sega/indexer.yaml --status",
		Long: `Run an indexer until SIGINT or SIGTERM. It fetches the recordings of sessions that have ended, judges each by what the log
says of it, opens it with a reviewer's age identity and keeps its text in an index of its own. It answers the broker's
searches with sessions, never with text. It listens on nothing, and enrols with its join token once.

The index is as secret as the recordings' text: keep its folder on an encrypted disk of the reviewers.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), newLogger())
		}}
	c.Flags().StringVar(&o.config, "config", "", "configuration file (YAML)")
	c.Flags().BoolVar(&o.retry, "retry", false, "try sessions again that could not be indexed, and end; a running indexer takes them up")
	c.Flags().BoolVar(&o.status, "status", false, "print what is not indexed, one JSON object a line, and end")
	c.Flags().BoolVar(&o.newLog, "accept-new-log", false, "forget the checkpoint of the broker's log, and run: after the broker was restored from a backup")
	_ = c.MarkFlagRequired("config")
	return c
}

func (o indexerRun) run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	if o.retry && o.status || o.newLog && (o.retry || o.status) {
		return fmt.Errorf("%w: --retry, --status and --accept-new-log do not go together", errUsage)
	}
	file, err := config.LoadIndexer(o.config)
	if err != nil {
		return err
	}
	data := config.Path(o.config, file.Data)
	if !o.retry && !o.status { // which look into the index of one that runs
		unlock, err := lockData(data)
		if err != nil {
			return err
		}
		defer unlock()
	} else if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	index, err := indexer.OpenIndex(ctx, filepath.Join(data, indexName))
	if err != nil {
		return err
	}
	defer func() {
		if err := index.Close(); err != nil {
			log.Error("close the index", "error", err)
		}
	}()
	switch {
	case o.retry:
		n, err := index.Retry(ctx)
		if err == nil {
			_, err = fmt.Fprintf(out, "%d sessions are tried again\n", n)
		}
		return err
	case o.status:
		return printMissing(ctx, index, out)
	case o.newLog:
		if err := forgetLog(ctx, index, data); err != nil {
			return err
		}
	}
	return serveIndexer(ctx, o.config, file, data, index, log)
}

// forgetLog makes an indexer begin anew with a log that was restored. What is indexed stays.
func forgetLog(ctx context.Context, index *indexer.Index, data string) error {
	if err := os.Remove(filepath.Join(data, checkpointName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return index.Forget(ctx)
}

// printMissing prints every session whose text cannot be found, or not all of it.
func printMissing(ctx context.Context, index *indexer.Index, out io.Writer) error {
	missing, err := index.Missing(ctx)
	if err != nil {
		return err
	}
	cut, err := index.Cut(ctx)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	for _, e := range append(missing, cut...) {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func serveIndexer(ctx context.Context, path string, file config.IndexerServer, data string, index *indexer.Index, log *slog.Logger) error {
	identities, err := identities(config.Path(path, file.Identity))
	if err != nil {
		return err
	}
	control, err := openControl(controlConfig{origin: file.Broker, caFile: config.Path(path, file.CAFile), logKey: file.LogKey, name: file.Name, kind: api.MachineIndexer,
		data: data, joinToken: config.Path(path, file.JoinToken), log: log})
	if err != nil {
		return err
	}
	x, err := indexer.New(ctx, indexer.Config{Broker: &indexBroker{control}, Index: index, Identities: identities,
		Spool: filepath.Join(data, indexSpoolName), Poll: file.Poll, Now: time.Now, Log: log})
	if err != nil {
		return err
	}
	log.Info("indexer is ready", "name", file.Name, "broker", file.Broker)
	return x.Run(ctx)
}

// identities reads an age identity file, which others must not be able to read.
func identities(path string) ([]age.Identity, error) {
	if path == "" {
		return nil, errors.New("identity: name the file of a reviewer's age identity")
	}
	raw, err := config.Secret(path)
	if err != nil {
		return nil, err
	}
	defer raw.Wipe()
	list, err := age.ParseIdentities(bytes.NewReader(raw.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("%s is not a file of age identities (AGE-SECRET-KEY-1…)", path)
	}
	return list, nil
}

// indexBroker is the broker as an indexer needs it. Every answer's checkpoint is held against the
// one remembered: an indexer is a witness as every client is.
type indexBroker struct{ *control }

func (b *indexBroker) witnessed(ctx context.Context) *client.Client {
	return b.client.Witnessed(func(note []byte) error { return b.witness.Observe(ctx, note) })
}

// Sessions implements indexer.Broker.
func (b *indexBroker) Sessions(ctx context.Context, after int64) iter.Seq2[api.IndexSession, error] {
	return func(yield func(api.IndexSession, error) bool) {
		stopped := false
		err := b.with(ctx, func() error {
			for s, err := range b.witnessed(ctx).IndexSessions(ctx, after) {
				if err != nil {
					return err
				}
				if stopped = !yield(s, nil); stopped {
					return nil
				}
				after = s.Index // what was yielded is not asked for twice
			}
			return nil
		})
		if err != nil && !stopped {
			yield(api.IndexSession{}, err)
		}
	}
}

// Recording implements indexer.Broker.
func (b *indexBroker) Recording(ctx context.Context, id string) (in io.ReadCloser, err error) {
	err = b.with(ctx, func() error { in, err = b.witnessed(ctx).IndexRecording(ctx, id); return err })
	return in, err
}

// Searches implements indexer.Broker.
func (b *indexBroker) Searches(ctx context.Context, handle func(api.IndexSearch) error) error {
	return b.with(ctx, func() error { return b.witnessed(ctx).IndexSearches(ctx, handle) })
}

// Hits implements indexer.Broker.
func (b *indexBroker) Hits(ctx context.Context, hits api.IndexHits) error {
	return b.with(ctx, func() error { return b.witnessed(ctx).IndexHits(ctx, hits) })
}
