package main

import (
	"context"
	"fmt"
	"log/slog"

	"sega/audit"
	"sega/audit/migrate"
	"sega/audit/postgres"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/state"
	"sega/cmd/segad/config"
	"sega/keychain/secret"
)

func openLogKey(path string, file config.Broker) (*audit.LogKey, error) {
	raw, err := config.Secret(config.Path(path, file.LogKey))
	if err != nil {
		return nil, err
	}
	key, err := audit.ParseLogKey(raw.Reveal())
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	return key, nil
}

// database is where the log and the state are; url holds PostgreSQL's password where one is configured.
type database struct {
	config.Database
	url secret.Secret
}

// openDatabase reads where a broker's configuration says that its database is. It opens nothing yet.
func openDatabase(path string, file config.Broker) (database, error) {
	at, err := config.ParseDatabase(path, file.Database)
	if err != nil {
		return database{}, err
	}
	password, err := file.DatabasePassword(path)
	if err != nil {
		return database{}, err
	}
	url, err := at.URL(password)
	return database{Database: at, url: url}, err
}

// log opens the log of either backend.
func (d database) log(ctx context.Context, key *audit.LogKey, log *slog.Logger) (store.Log, error) {
	if d.Postgres != "" {
		db, err := postgres.Open(ctx, postgres.Config{URL: string(d.url.Reveal()), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema, Log: log}})
		if err != nil {
			return nil, err
		}
		return db, nil
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: d.SQLite, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema, Log: log}})
	if err != nil {
		return nil, err
	}
	return db, nil
}

// place is the database as the end of a move.
func (d database) place(key *audit.LogKey) migrate.Place {
	if d.Postgres != "" {
		c := postgres.Config{URL: string(d.url.Reveal()), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}}
		return migrate.Place{Name: d.String(), Remove: "drop the schema of its tables there: sega, where search_path names no other",
			Open: func(ctx context.Context, _ bool) (migrate.End, error) { return asEnd(postgres.OpenMove(ctx, c)) }}
	}
	c := sqlite.Config{Path: d.SQLite, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}}
	return migrate.Place{Name: d.String(), Remove: "rm " + d.SQLite,
		Open: func(ctx context.Context, create bool) (migrate.End, error) {
			return asEnd(sqlite.OpenMove(ctx, c, create))
		}}
}

// asEnd keeps a nil pointer from becoming an end that is none.
func asEnd[E migrate.End](e E, err error) (migrate.End, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}
