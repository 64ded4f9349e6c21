package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"sega/audit/recording"
	"sega/broker/api"
	"sega/broker/bastion"
	"sega/cmd/segad/config"
)

func newBastion() *cobra.Command {
	var path string
	var acceptNewLog bool
	c := &cobra.Command{Use: "bastion", Short: "Run a bastion", Args: exactly(0), Example: "  segad bastion --config /etc/sega/bastion.yaml",
		Long: "Run a bastion until SIGINT or SIGTERM. It enrols with its join token once, holds no CA key, and cannot read back what it records.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBastion(cmd.Context(), path, acceptNewLog, newLogger())
		}}
	c.Flags().StringVar(&path, "config", "", "configuration file (YAML)")
	c.Flags().BoolVar(&acceptNewLog, "accept-new-log", false, "forget the checkpoint of the broker's log: after the broker was restored from a backup")
	_ = c.MarkFlagRequired("config")
	return c
}

func runBastion(ctx context.Context, path string, acceptNewLog bool, log *slog.Logger) error {
	file, err := config.LoadBastion(path)
	if err != nil {
		return err
	}
	data := config.Path(path, file.Data)
	unlock, err := lockData(data)
	if err != nil {
		return err
	}
	defer unlock()
	if acceptNewLog {
		for _, name := range []string{checkpointName, "feed.json"} {
			if err := os.Remove(filepath.Join(data, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	control, err := openControl(controlConfig{origin: file.Broker, caFile: config.Path(path, file.CAFile), logKey: file.LogKey, name: file.Name, kind: api.MachineBastion,
		data: data, joinToken: config.Path(path, file.JoinToken), log: log})
	if err != nil {
		return err
	}
	store, err := openRecordings(ctx, path, file.Recordings, file.RecordingsCredentials, log)
	if err != nil {
		return err
	}
	recipients, names, err := recipients(file.Recipients)
	if err != nil {
		return err
	}
	proxies, err := prefixes(file.TrustedProxies)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", file.Listen)
	if err != nil {
		return err
	}
	b, err := bastion.New(bastion.Config{Name: file.Name, Listener: listener, Control: control, DataDir: data, Bucket: store, UploadEvery: file.UploadInterval, KeepAlive: file.KeepAlive,
		Banner: file.Banner, MOTD: file.MOTD,
		Recipients: recipients, RecipientNames: names, Hash: recording.FasterHash(), Witness: control.witness.Observe, TrustedProxies: proxies, Log: log, Now: time.Now,
		Drain: drainOf(file.Drain), Hurry: secondSignal(ctx), Reserve: uint64(file.Spool.Reserve), SessionMax: int64(file.Spool.PerSession), PersonMax: int64(file.Spool.PerPerson)})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer relaxCollector(spareBastion)()
	go giveBack(ctx) // ends with ctx
	log.Info("bastion is ready", "name", file.Name, "listen", listener.Addr().String(), "broker", file.Broker)
	return b.Run(ctx)
}

// defaultDrain is for a transfer that is about to end, and shorter than what service managers wait.
const defaultDrain = 30 * time.Second

func drainOf(configured *time.Duration) time.Duration {
	if configured == nil {
		return defaultDrain
	}
	return *configured
}

// secondSignal is closed by a signal that comes after the one that has ended ctx.
func secondSignal(ctx context.Context) <-chan struct{} {
	hurry := make(chan struct{})
	context.AfterFunc(ctx, func() {
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		<-again // the process ends when the bastion has, whether one comes or not
		close(hurry)
	})
	return hurry
}

// recipients reads who may open recordings: they stand in the bastion's own configuration, so
// that no broker adds one (design.md §4).
func recipients(list []config.Recipient) ([]age.Recipient, []string, error) {
	var out []age.Recipient
	var names []string
	for _, r := range list {
		v, err := age.ParseX25519Recipient(r.Age)
		if err != nil {
			return nil, nil, fmt.Errorf("recipient %q is not an age recipient (age1…)", r.Name)
		}
		out, names = append(out, v), append(names, r.Name)
	}
	return out, names, nil
}
