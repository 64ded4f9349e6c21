package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/postgres/pgtest"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
)

// shared is the server of all tests that do not harm it.
var shared struct {
	sync.Once
	*pgtest.Server
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.Server != nil {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// every is 1 where SEGA_SOAK asks for all of something, else n: each n-th is done.
func every(n int64) int64 {
	if os.Getenv("SEGA_SOAK") == "1" {
		return 1
	}
	return n
}

// server returns the shared server.
func server(tb testing.TB) *pgtest.Server {
	tb.Helper()
	shared.Do(func() { shared.Server, shared.err = pgtest.Run("") })
	if errors.Is(shared.err, pgtest.ErrMissing) && os.Getenv("CI") == "" {
		tb.Skip(shared.err)
	}
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.Server
}

// testKey is a log key that is the same in every process.
func testKey(tb testing.TB) *audit.LogKey {
	tb.Helper()
	return storetest.Key(tb, "tests of audit/postgres")
}

// config is a configuration with the test key and the suite's state.
func config(tb testing.TB, url string) Config {
	key := testKey(tb)
	return Config{URL: url, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: []string{storetest.Schema}}}
}

// openTest opens a log and closes it when the test ends.
func openTest(tb testing.TB, cfg Config) *Log {
	tb.Helper()
	l, err := Open(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

func testEvent(n int) audit.Event {
	e := audit.New(time.Unix(1_770_000_000, int64(n)), audit.KindSSHHop, audit.Success)
	e.Actor = audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.corp.example", Sub: fmt.Sprint("00u", n), Email: fmt.Sprintf("user%d@corp.example", n)}
	e.Resource = "host/db1"
	return e
}

func withDetails(e audit.Event, text string) audit.Event {
	e.Details = json.RawMessage(text)
	return e
}
