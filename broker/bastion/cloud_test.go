package bastion

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"gocloud.dev/blob/s3blob"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
)

// inCloud keeps recordings in an S3 on loopback. The first faults of its puts are done, and their
// answers lost.
func inCloud(t *testing.T, faults int32) *bucket.Cloud {
	t.Helper()
	objects := s3mem.New()
	if err := objects.CreateBucket("recordings"); err != nil {
		t.Fatal(err)
	}
	inner, left := gofakes3.New(objects).Server(), atomic.Int32{}
	left.Store(faults)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || left.Add(-1) < 0 {
			inner.ServeHTTP(w, r)
			return
		}
		inner.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	client := s3.New(s3.Options{BaseEndpoint: &server.URL, Region: "eu-west-1", UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})})
	b, err := s3blob.OpenBucket(t.Context(), client, "recordings", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return bucket.NewCloud(b, "sega")
}

// TestRecordingInCloud: what a session showed is in S3 while it lives, and whole at its end, although
// answers were lost.
func TestRecordingInCloud(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	cloud := inCloud(t, 3)
	w := start(t, f, func(c *Config) { c.Bucket, c.UploadEvery = cloud, 20*time.Millisecond })
	client := w.direct(t)
	s := newSession(t, client)
	in, _ := s.StdinPipe()
	s.Stdout = io.Discard
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "while it lives"); err != nil {
		t.Fatal(err)
	}
	id := f.only(t, kindStart).SessionID
	eventually(t, "the live session's bytes in the bucket", func() bool { return strings.Contains(w.liveOutput(id), "while it lives") })
	_ = in.Close()
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	if got := stream(w.frames(id), recording.StreamOut); got != "while it lives" {
		t.Errorf("%q", got)
	}
}

// liveOutput is the output of a session as far as the bucket has it.
func (w *world) liveOutput(id string) string {
	in, err := w.bucket.Reader(w.t.Context(), id, 0)
	if err != nil {
		return ""
	}
	defer in.Close()
	r, err := recording.Open(in, w.identity)
	if err != nil {
		return ""
	}
	var frames []recording.Frame
	for {
		f, err := r.Next()
		if err != nil {
			return stream(frames, recording.StreamOut)
		}
		frames = append(frames, f)
	}
}

// TestRecoveryIntoCloud: what a killed bastion left comes into S3 with the next start.
func TestRecoveryIntoCloud(t *testing.T) {
	dir := t.TempDir()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	killedSpool(t, dir, identity)
	control := newFakeControl(t)
	cloud := inCloud(t, 1)
	w := startIn(t, dir, control, func(c *Config) { c.Bucket = cloud })
	w.identity = identity
	var d endDetail
	if err := json.Unmarshal(control.only(t, kindEnd).Details, &d); err != nil {
		t.Fatal(err)
	}
	if got := stream(w.interrupted(killedID), recording.StreamOut); got != "sealed unsealed" || d.Recording.Verdict != recording.StatusInterrupted {
		t.Errorf("recovered %q as %s", got, d.Recording.Verdict)
	}
}
