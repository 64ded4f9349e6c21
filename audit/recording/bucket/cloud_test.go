package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"gocloud.dev/blob/s3blob"

	"sega/audit/recording"
)

// s3Server is an S3 on loopback that can fail. It takes no put that is not conditional: were the
// condition lost on the way, every test would notice.
type s3Server struct {
	url     string
	objects gofakes3.Backend
	fault   atomic.Pointer[fault]
}

// fault says what to do with a request before it is carried out and with its answer; both may be nil.
type fault struct {
	before func(w http.ResponseWriter, r *http.Request) (done bool)
	after  func(w http.ResponseWriter, r *http.Request) (lost bool)
}

func newS3(t testing.TB) *s3Server {
	t.Helper()
	s := &s3Server{objects: s3mem.New()}
	must(t, s.objects.CreateBucket("recordings"))
	inner := gofakes3.New(s.objects).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, inner) }))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *s3Server) serve(w http.ResponseWriter, r *http.Request, inner http.Handler) {
	f := s.fault.Load()
	if f == nil {
		f = &fault{}
	}
	if f.before != nil && f.before(w, r) {
		return
	}
	if r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "*" {
		http.Error(w, "a put without a condition", http.StatusTeapot)
		return
	}
	answer := httptest.NewRecorder()
	inner.ServeHTTP(answer, r)
	if f.after != nil && f.after(w, r) {
		return
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// open connects anew, as another process would. It tries each request twice.
func (s *s3Server) open(t testing.TB) *Cloud {
	t.Helper()
	client := s3.New(s3.Options{BaseEndpoint: &s.url, Region: "eu-west-1", UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
		Retryer:    retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 2, time.Millisecond }),
		HTTPClient: &http.Client{Timeout: 2 * time.Second}})
	b, err := s3blob.OpenBucket(t.Context(), client, "recordings", nil)
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return NewCloud(b, "/sega//prod/")
}

func TestCloudKeepsToItsPrefix(t *testing.T) {
	s := newS3(t)
	must(t, s.open(t).Put(t.Context(), session, 0, text("x")))
	if _, err := s.objects.HeadObject("recordings", "sega/prod/"+session+"/00000000"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "..", "ssh_../../x", "ssh_0123456789/x"} {
		_, err := s.open(t).Reader(t.Context(), id, 0)
		if err == nil || s.open(t).Put(t.Context(), id, 0, text("x")) == nil {
			t.Errorf("%q taken", id)
		}
	}
	large := io.NewSectionReader(strings.NewReader(""), 0, maxCloud+1)
	if err := s.open(t).Put(t.Context(), session, 1, large); err == nil || !strings.Contains(err.Error(), "one request") {
		t.Errorf("%v", err)
	}
}

func TestCloudMissingNumberIsNamed(t *testing.T) {
	for seq := range 3 {
		s := newS3(t)
		b := s.open(t)
		for i := range 4 {
			must(t, b.Put(t.Context(), session, i, text("x")))
		}
		name := objectName(session, seq)
		_, err := s.objects.DeleteObject("recordings", "sega/prod/"+name)
		must(t, err)
		if _, err := b.Reader(t.Context(), session, 0); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want it to name %s", err, name)
		}
	}
}

func TestCloudObjectThatGoesWhileReading(t *testing.T) {
	s := newS3(t)
	b := s.open(t)
	for i := range 2 {
		must(t, b.Put(t.Context(), session, i, text("x")))
	}
	r, err := b.Reader(t.Context(), session, 0)
	must(t, err)
	defer r.Close()
	_, err = s.objects.DeleteObject("recordings", "sega/prod/"+session+"/00000001")
	must(t, err)
	if data, err := io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "00000001") {
		t.Errorf("%q, %v", data, err)
	}
}

// TestCloudFaults: whatever happens to requests and answers, what is uploaded comes whole and once.
func TestCloudFaults(t *testing.T) {
	only := func(method string, times int32, do func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
		var n atomic.Int32
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != method || n.Add(1) > times {
				return false
			}
			do(w)
			return true
		}
	}
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	cut := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	for name, f := range map[string]fault{
		"503 once":                         {before: only("PUT", 1, status(503))},
		"500 for long":                     {before: only("PUT", 7, status(500))},
		"connections are cut":              {before: only("PUT", 5, cut)},
		"the answer to a put is lost":      {after: only("PUT", 1, cut)},
		"all answers to puts are lost":     {after: only("PUT", 6, cut)},
		"a put is done and answered 500":   {after: only("PUT", 3, status(500))},
		"the listing fails":                {before: only("GET", 3, status(503))},
		"a lost answer, then no comparing": {after: only("PUT", 1, cut), before: only("GET", 2, status(503))},
		"forbidden for a while":            {before: only("PUT", 2, status(403))},
		"conflict of two at once":          {before: only("PUT", 1, status(409))},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			s.fault.Store(&f)
			b, spool := s.open(t), writeSpool(t, "abcdefghij")
			u := newUploader(t, b, spool, nil)
			for tries := 0; ; tries++ {
				err := u.Upload(t.Context(), 10)
				if err == nil {
					break
				}
				if errors.Is(err, ErrConflict) || tries > 20 {
					t.Fatal(err)
				}
			}
			s.fault.Store(nil)
			if got := readFrom(t, b, 0); got != "abcdefghij" {
				t.Errorf("%q", got)
			}
			if e, err := b.Extent(t.Context(), session); err != nil || e != (Extent{Objects: 3, Bytes: 10}) {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

// TestCloudThatHangs: a put that nobody answers ends with its context, and nothing is taken for done.
func TestCloudThatHangs(t *testing.T) {
	s := newS3(t)
	release := make(chan struct{})
	s.fault.Store(&fault{before: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body)
			<-release
		}
		return false
	}})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.open(t).Put(ctx, session, 0, text("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestCloudReadingBreaks: an object that comes only in part is an error, never the end.
func TestCloudReadingBreaks(t *testing.T) {
	s := newS3(t)
	b := s.open(t)
	must(t, b.Put(t.Context(), session, 0, text("0123456789")))
	s.fault.Store(&fault{before: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "00000000") {
			return false
		}
		w.Header().Set("Content-Length", "10")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(w, "01234")
		panic(http.ErrAbortHandler)
	}})
	r, err := b.Reader(t.Context(), session, 0)
	must(t, err)
	defer r.Close()
	if data, err := io.ReadAll(r); err == nil {
		t.Errorf("%q is taken for whole", data)
	}
}

// TestCloudAfterAKill: a bastion that was killed between writing, uploading and hearing the answer
// leaves a spool; the next process brings the rest into the bucket, and the verdict is "interrupted".
func TestCloudAfterAKill(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %v", lost), func(t *testing.T) {
			s := newS3(t)
			spool, w := killedRecording(t)
			u := newUploader(t, s.open(t), spool, nil)
			u.cfg.MaxObject = 1000
			if lost {
				s.fault.Store(&fault{after: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }})
			}
			if err := u.Upload(t.Context(), w.Head().Bytes); (err != nil) != lost {
				t.Fatal(err)
			}
			s.fault.Store(nil)
			recoverAndUpload(t, s.open(t), spool, w)
		})
	}
}

func killedRecording(t *testing.T) (string, *recording.Writer) {
	t.Helper()
	spool := filepath.Join(t.TempDir(), "spool")
	f, err := os.OpenFile(spool, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	var to []age.Recipient
	for range 2 {
		id, err := age.GenerateX25519Identity()
		must(t, err)
		to = append(to, id.Recipient())
	}
	w, err := recording.New(f, recording.Config{SessionID: session, Recipients: to})
	must(t, err)
	must(t, w.Write(0, recording.StreamOut, make([]byte, 2500)))
	must(t, w.Seal())
	must(t, w.Write(0, recording.StreamOut, []byte("not sealed")))
	_, err = f.Write([]byte{0, 0, 1, 0, 1, 2, 3}) // a torn record
	must(t, err)
	return spool, w
}

func recoverAndUpload(t *testing.T, b *Cloud, spool string, w *recording.Writer) {
	t.Helper()
	raw, err := os.ReadFile(spool)
	must(t, err)
	end, keep, err := recording.Recover(bytes.NewReader(raw))
	must(t, err)
	must(t, os.Truncate(spool, keep))
	u, err := NewUploader(UploaderConfig{Store: b, Spool: spool, SessionID: session, MaxObject: 1000})
	must(t, err)
	must(t, u.Upload(t.Context(), keep))
	r, err := b.Reader(t.Context(), session, 0)
	must(t, err)
	defer r.Close()
	v, err := recording.Verify(r, w.Announce(), []recording.Head{w.Head()}, &end)
	must(t, err)
	if v.Status != recording.StatusInterrupted || v.TailBytes == 0 || v.Detail != "" {
		t.Errorf("%+v", v)
	}
}
