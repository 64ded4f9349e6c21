package sftp

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
)

const (
	maxRuns    = 16      // of a transfer, each with a digest of its own
	maxWaiting = 1 << 20 // bytes of a channel that came out of order and wait for their place
	maxHeld    = 256     // pieces of a transfer that wait
)

// Transfer is what went over of one open file in one direction.
//
// A run is bytes that follow each other in the file, wherever they stand in the stream, as long as
// no more than 1 MiB has to wait for what belongs before it. A file that is read or written from
// its beginning to its end is one run at offset 0, whose digest is the file's. What goes over when 16
// runs have begun is in the rest, unless it continues the last of them.
type Transfer struct {
	Bytes int64
	Runs  []Run
	Rest  *Rest
}

// Run is bytes that follow each other in the file.
type Run struct {
	Offset uint64
	Bytes  int64
	SHA256 string // hex, of them
}

// Rest is what runs do not hold, in the order in which it went over.
type Rest struct {
	Bytes  int64
	SHA256 string // hex, of them one behind the other
}

// transfer gathers a Transfer. Digests are not computed at once: jobs says what is to be hashed.
type transfer struct {
	jobs    *[]job
	waiting *int // bytes that wait, of the whole channel

	bytes    int64
	expected bool // next is known
	next     uint64
	runs     []run
	held     []piece // by offset
	rest     *rest
}

type run struct {
	offset uint64
	bytes  int64
	hash   hash.Hash
}

type rest struct {
	bytes int64
	hash  hash.Hash
}

type piece struct {
	at uint64
	b  []byte
}

// job is bytes for a hash; they stay as they are until it is done.
type job struct {
	hash hash.Hash
	b    []byte
}

// expect says where the first bytes will begin.
func (t *transfer) expect(at uint64) {
	if !t.expected {
		t.expected, t.next = true, at
	}
}

// add takes bytes at an offset, which belong to the caller's stream.
func (t *transfer) add(at uint64, b []byte) {
	if len(b) == 0 {
		return
	}
	t.bytes += int64(len(b))
	t.expect(at)
	switch {
	case at == t.next:
		t.extend(b)
		t.drain()
	case at < t.next, len(b) > maxWaiting-*t.waiting && len(t.held) == 0, t.rest != nil:
		t.begin(at, b)
		t.drain()
	default:
		t.hold(at, b)
	}
}

// extend adds to the run that goes on at next, which may have to begin.
func (t *transfer) extend(b []byte) {
	if len(t.runs) == 0 {
		t.begin(t.next, b)
		return
	}
	r := &t.runs[len(t.runs)-1]
	r.bytes += int64(len(b))
	t.next += uint64(len(b))
	*t.jobs = append(*t.jobs, job{r.hash, b})
}

// begin starts a run, or adds to the rest.
func (t *transfer) begin(at uint64, b []byte) {
	if len(t.runs) < maxRuns {
		t.runs = append(t.runs, run{offset: at, hash: sha256.New()})
		t.next = at
		t.extend(b)
		return
	}
	if t.rest == nil {
		t.rest = &rest{hash: sha256.New()}
	}
	t.rest.bytes += int64(len(b))
	*t.jobs = append(*t.jobs, job{t.rest.hash, b})
}

// hold keeps a copy until its turn comes. Where there is no more room, what stands first in the file
// begins a run.
func (t *transfer) hold(at uint64, b []byte) {
	i, _ := slices.BinarySearchFunc(t.held, at, func(p piece, at uint64) int {
		if p.at <= at {
			return -1
		}
		return 1
	})
	if i > 0 && t.held[i-1].at+uint64(len(t.held[i-1].b)) == at {
		t.held[i-1].b = append(t.held[i-1].b, b...)
	} else {
		t.held = slices.Insert(t.held, i, piece{at, slices.Clone(b)})
	}
	*t.waiting += len(b)
	for len(t.held) > 0 && (*t.waiting > maxWaiting || len(t.held) > maxHeld) {
		p := t.pop()
		t.begin(p.at, p.b)
		t.drain()
	}
}

// drain takes what has its place now. What begins before next overlaps, and is a run of its own.
func (t *transfer) drain() {
	for len(t.held) > 0 && t.held[0].at <= t.next {
		p := t.pop()
		if p.at == t.next {
			t.extend(p.b)
		} else {
			t.begin(p.at, p.b)
		}
	}
}

func (t *transfer) pop() piece {
	p := t.held[0]
	t.held = slices.Delete(t.held, 0, 1)
	*t.waiting -= len(p.b)
	return p
}

// settle gives what still waits a place: nothing will come before it any more.
func (t *transfer) settle() {
	for len(t.held) > 0 {
		p := t.pop()
		t.begin(p.at, p.b)
		t.drain()
	}
}

// result is the Transfer, once all jobs are done.
func (t *transfer) result() *Transfer {
	out := &Transfer{Bytes: t.bytes}
	for _, r := range t.runs {
		out.Runs = append(out.Runs, Run{Offset: r.offset, Bytes: r.bytes, SHA256: digest(r.hash)})
	}
	if len(t.runs) == 0 {
		out.Runs = []Run{{Offset: t.next, SHA256: digest(sha256.New())}}
	}
	if t.rest != nil {
		out.Rest = &Rest{t.rest.bytes, digest(t.rest.hash)}
	}
	return out
}

func digest(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
