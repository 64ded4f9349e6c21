package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"sega/audit/recording/bucket"
)

const storedSession = "ssh_0123456789abcdef"

// storage is an S3 on loopback that remembers the puts that came.
type storage struct {
	*httptest.Server
	mu   sync.Mutex
	puts []*http.Request
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	objects := s3mem.New()
	if err := objects.CreateBucket("sega"); err != nil {
		t.Fatal(err)
	}
	s, inner := &storage{}, gofakes3.New(objects).Server()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			s.mu.Lock()
			s.puts = append(s.puts, r.Clone(r.Context()))
			s.mu.Unlock()
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func writeCredentials(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func roundTrip(t *testing.T, r recordings) {
	t.Helper()
	for i, part := range []string{"one", "two"} {
		if err := r.Put(t.Context(), storedSession, i, io.NewSectionReader(strings.NewReader(part), 0, int64(len(part)))); err != nil {
			t.Fatal(err)
		}
	}
	err := r.Put(t.Context(), storedSession, 1, io.NewSectionReader(strings.NewReader("other"), 0, 5))
	if !errors.Is(err, bucket.ErrConflict) {
		t.Errorf("replaced: %v", err)
	}
	in, err := r.Reader(t.Context(), storedSession, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if data, err := io.ReadAll(in); err != nil || string(data) != "etwo" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestOpenRecordingsInS3: region, prefix, encryption and the credentials of the file reach the
// storage, and every put is conditional.
func TestOpenRecordingsInS3(t *testing.T) {
	s := newStorage(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
	q := url.Values{"endpoint": {s.URL}, "region": {"eu-test-7"}, "encryption": {"aws:kms"}, "kms_key": {"alias/sega"}}
	var logs bytes.Buffer
	r, err := openRecordings(t.Context(), "/etc/sega/broker.yaml", "s3://sega/recordings?"+q.Encode(),
		writeCredentials(t, "[default]\naws_access_key_id = OFTHEFILE\naws_secret_access_key = s\n"), slog.New(slog.NewTextHandler(&logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.puts) != 3 {
		t.Fatalf("%d puts", len(s.puts))
	}
	for _, p := range s.puts {
		h := p.Header
		if h.Get("If-None-Match") != "*" || !strings.HasPrefix(p.URL.Path, "/sega/recordings/"+storedSession+"/0000000") || h.Get("X-Amz-Server-Side-Encryption") != "aws:kms" ||
			h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "alias/sega" || !strings.Contains(h.Get("Authorization"), "Credential=OFTHEFILE/") || !strings.Contains(h.Get("Authorization"), "/eu-test-7/s3/") {
			t.Errorf("%s %v", p.URL, h)
		}
	}
	if logs.Len() > 0 {
		t.Errorf("logged: %s", &logs)
	}
}

// TestOpenRecordingsDefaultChain: without a file the SDK's own chain is asked.
func TestOpenRecordingsDefaultChain(t *testing.T) {
	s := newStorage(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "OFTHECHAIN")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_REGION", "eu-test-8")
	r, err := openRecordings(t.Context(), "/etc/sega/broker.yaml", "s3://sega?endpoint="+s.URL, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if auth := s.puts[0].Header.Get("Authorization"); !strings.Contains(auth, "Credential=OFTHECHAIN/") || !strings.Contains(auth, "/eu-test-8/s3/") {
		t.Errorf("%s", auth)
	}
}

func TestOpenRecordingsInAFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "recordings"), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := openRecordings(t.Context(), filepath.Join(dir, "broker.yaml"), "recordings", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, r)
}

// TestOpenRecordingsThatDoNotAnswer: a storage that is away is said, and is no reason not to start.
func TestOpenRecordingsThatDoNotAnswer(t *testing.T) {
	s := newStorage(t)
	s.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "CANARY-91bd")
	t.Setenv("AWS_REGION", "eu-test-8")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	var logs bytes.Buffer
	if _, err := openRecordings(t.Context(), "/etc/sega/broker.yaml", "s3://sega?endpoint="+s.URL, "", slog.New(slog.NewTextHandler(&logs, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logs.String(), "does not answer") || strings.Contains(logs.String(), "CANARY") {
		t.Errorf("%s", &logs)
	}
}

func TestOpenRecordingsRefuses(t *testing.T) {
	for value, credentials := range map[string]string{"": "", "missing": "", "gs://x": "", "s3://sega?region=x": writeCredentials(t, "[other]\n"), "s3://sega": "/nonexistent"} {
		if _, err := openRecordings(t.Context(), filepath.Join(t.TempDir(), "broker.yaml"), value, credentials, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q taken", value)
		}
	}
}
