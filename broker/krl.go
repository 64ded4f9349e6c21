package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
	"sega/sshca/krl"
)

const (
	// krlLook is how often the database is asked whether another broker has changed the list.
	krlLook = time.Second
	// krlTime bounds the making of a list, for which all who ask wait.
	krlTime = 30 * time.Second
	// krlSlowest is the bytes a second of the slowest client that gets a list whole.
	krlSlowest = 64 << 10
	// krlRate is how many whole lists an address gets a second, and krlBurst at once: a fleet behind one address.
	// What has not changed is not sent.
	krlRate, krlBurst = 20, 500
)

// krlProfiles are those whose certificates the list names. Who would be shown an access certificate asks the broker.
var krlProfiles = [...]string{api.ProfileFront, api.ProfileHop, api.ProfileHost}

// errKRLMoved is for a list whose content has changed while it was made.
var errKRLMoved = errors.New("broker: the list of revoked certificates changes all the time")

// krls makes OpenSSH's list of what is revoked, once for each change, and keeps the last.
type krls struct {
	mu   sync.Mutex // one makes it, the others wait
	made *madeKRL
	wake <-chan struct{} // of the hub before the last look: closed once somebody was revoked here
	seen time.Time       // of the last look, by the process's own clock
	err  error           // of the last look

	begun bool // this run has made a version of its own
}

// madeKRL is a list with all that is sent with it. Nobody changes it.
type madeKRL struct {
	state.KRL
	cas       string // digest of the CAs that it was made for
	data, sig []byte
	etag      string
}

// krlCAs are the CAs that the list is about.
type krlCAs struct {
	of      map[string][]ssh.PublicKey // by profile; the serials of one are those of each of its keys
	retired []ssh.PublicKey
}

// readKRLCAs reads the CAs as they stand in the records. Of retired ones all are listed, of whatever profile: what turns up of theirs
// is to be refused.
func readKRLCAs(ctx context.Context, q state.Querier) (krlCAs, error) {
	c := krlCAs{of: map[string][]ssh.PublicKey{}}
	keys, err := state.CAKeys(ctx, q)
	if err != nil {
		return c, err
	}
	for _, k := range keys {
		key, err := sshca.ParseKey(k.Key)
		if err != nil {
			return c, fmt.Errorf("a key of the %s CA: %w", k.CA, err)
		}
		if k.Phase == state.CARetired {
			c.retired = append(c.retired, key)
		} else {
			c.of[k.CA] = append(c.of[k.CA], key)
		}
	}
	return c, nil
}

// digest tells two sets of CAs apart.
func (c krlCAs) digest() string {
	h := sha256.New()
	for _, p := range krlProfiles {
		for _, k := range c.of[p] {
			_, _ = h.Write(append([]byte(p), k.Marshal()...))
		}
	}
	for _, k := range c.retired {
		_, _ = h.Write(append([]byte("retired"), k.Marshal()...))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// currentKRL returns the list with all that was revoked here before it was called, and elsewhere a second before.
func (s *Server) currentKRL(ctx context.Context) (*madeKRL, error) {
	k := &s.krls
	k.mu.Lock()
	defer k.mu.Unlock()
	wake, at := s.hub.waker(), time.Now()
	if k.wake == wake && at.Sub(k.seen) < krlLook {
		return k.answer()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), krlTime)
	defer cancel()
	made, err := s.lookAtKRL(ctx, k.made)
	if k.err = unavailable(err); err == nil {
		k.made = made
	}
	k.wake, k.seen = wake, at
	return k.answer()
}

// answer is what came of the last look. After one that failed nobody gets an older list: it may lack what was revoked.
func (k *krls) answer() (*madeKRL, error) {
	if k.err != nil {
		return nil, k.err
	}
	return k.made, nil
}

// lookAtKRL returns the last list where nothing has changed, and else makes one.
func (s *Server) lookAtKRL(ctx context.Context, last *madeKRL) (*madeKRL, error) {
	for range 5 {
		var cas krlCAs
		var now state.KRL
		var list krl.List
		fresh := false
		err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
			if now, err = state.KRLState(ctx, tx); err != nil {
				return err
			}
			if cas, err = readKRLCAs(ctx, tx); err != nil {
				return err
			}
			if fresh = last != nil && last.Changes == now.Changes && last.Version == now.Version && last.cas == cas.digest(); fresh {
				return nil
			}
			list, err = cas.list(ctx, tx)
			return err
		})
		if err != nil || fresh {
			return last, err
		}
		made, err := s.makeKRL(ctx, cas, list, now)
		if !errors.Is(err, errKRLMoved) {
			return made, err
		}
	}
	return nil, errKRLMoved
}

// list reads what is revoked.
func (c krlCAs) list(ctx context.Context, q state.Querier) (krl.List, error) {
	l := krl.List{Keys: c.retired}
	for _, profile := range krlProfiles {
		serials, err := state.RevokedSerials(ctx, q, profile)
		if err != nil {
			return l, err
		}
		ranges := make([]krl.Range, len(serials))
		for i, n := range serials {
			ranges[i] = krl.Serial(n)
		}
		for _, ca := range c.of[profile] {
			l.CAs = append(l.CAs, krl.Certificates{CA: ca, Serials: ranges})
		}
	}
	return l, nil
}

// makeKRL writes and signs a list of the content that was read with now. Its version is a new one where it says
// something else than the last, and with the first of each run: the database may have been restored meanwhile (R10).
func (s *Server) makeKRL(ctx context.Context, cas krlCAs, l krl.List, now state.KRL) (*madeKRL, error) {
	l.Version, l.Generated, l.Comment = 1, time.Unix(0, 0), "sega "+strings.TrimPrefix(s.Origin, "https://")
	content, err := l.Marshal()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	if digest := hex.EncodeToString(sum[:]); !s.krls.begun || digest != now.Digest {
		was := now
		_, err = s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
			at, err := state.KRLState(ctx, tx)
			if err == nil && at != was {
				err = errKRLMoved
			}
			if err != nil {
				return err
			}
			now, err = state.NextKRL(ctx, tx, digest, s.Now())
			return err
		})
		if err != nil {
			return nil, err
		}
		s.krls.begun = true
	}
	l.Version, l.Generated = uint64(now.Version), now.Generated
	made := &madeKRL{KRL: now, cas: cas.digest()}
	if made.data, err = l.Marshal(); err != nil {
		return nil, err
	}
	if made.sig, err = s.signKRL(ctx, made.data); err != nil {
		return nil, err
	}
	sum = sha256.Sum256(made.data)
	made.etag = `"` + hex.EncodeToString(sum[:]) + `"`
	return made, nil
}

// signKRL signs a list with the key of the hop CA (docs/decisions/the-hop-ca-signs-the-krl.md).
func (s *Server) signKRL(ctx context.Context, data []byte) ([]byte, error) {
	signer, err := s.authority(ctx, caHop)
	if err != nil {
		return nil, err
	}
	sig, err := krl.Sign(data, signer)
	s.noteCA(caHop, err)
	if err != nil {
		return nil, api.Errorf(api.KindUnavailable, "the key of the hop CA does not sign the revocation list").WithHint("the operators must look after the key; service resumes by itself").WithCause(err)
	}
	return sig, nil
}

// krl answers the list to anybody: what is revoked is no secret, and who is cut off from the broker's sessions must
// still hear of it.
func (s *Server) krl(ctx context.Context, c *call) (any, error) {
	return s.sendKRL(ctx, c, "application/octet-stream", func(k *madeKRL) []byte { return k.data })
}

// krlSig answers the detached signature of the list of the same version.
func (s *Server) krlSig(ctx context.Context, c *call) (any, error) {
	return s.sendKRL(ctx, c, "text/plain; charset=us-ascii", func(k *madeKRL) []byte { return k.sig })
}

// sendKRL sends a part of the list that is current, or says that nothing has changed (RFC 9110 §13.1.2). Both
// parts have the list's own ETag.
func (s *Server) sendKRL(ctx context.Context, c *call, contentType string, part func(*madeKRL) []byte) (any, error) {
	k, err := s.currentKRL(ctx)
	if err != nil {
		return nil, err
	}
	unchanged := namesETag(c.request.Header.Get("If-None-Match"), k.etag)
	if !unchanged {
		if err := s.limits.krl(c.source); err != nil {
			return nil, err
		}
	}
	return stream(func(w http.ResponseWriter) {
		data := part(k)
		h := w.Header()
		h.Del(api.HeaderNonce) // a cache would hand it to others
		h.Del(api.HeaderRequestID)
		h.Set("Cache-Control", "no-cache") // kept, and asked about each time
		h.Set("Content-Type", contentType)
		h.Set("Etag", k.etag)
		h.Set(api.HeaderKRLVersion, strconv.FormatInt(k.Version, 10))
		if unchanged {
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(streamWrite + time.Duration(len(data)/krlSlowest)*time.Second))
		http.ServeContent(w, c.request, "", time.Time{}, bytes.NewReader(data))
	}), nil
}

// namesETag reports whether a list of ETags, weak ones too, has one. What is no list of them is sent the whole.
func namesETag(list, etag string) bool {
	for v := range strings.SplitSeq(list, ",") {
		if strings.TrimPrefix(strings.TrimSpace(v), "W/") == etag {
			return true
		}
	}
	return false
}

// krl takes one whole list.
func (l *limiter) krl(a netip.Addr) error {
	return l.take("copies of the revocation list for this address", network(a), krlRate, krlBurst)
}
