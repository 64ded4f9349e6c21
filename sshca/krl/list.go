package krl

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrInvalid is for a list that no KRL can say, or that says nothing: serial 0, a certificate for a key, a
// version of 0. Nothing may be written then.
var ErrInvalid = errors.New("krl: not a list that can be written")

// Hash is the SHA-256 of a plain key's blob, the bytes behind ssh-keygen's "SHA256:".
type Hash [sha256.Size]byte

// HashOf returns the hash of a key, of a certificate that of its key.
func HashOf(key ssh.PublicKey) Hash { return sha256.Sum256(plain(key).Marshal()) }

// Range is the serials from First to Last, both included. One serial is a range of one.
type Range struct{ First, Last uint64 }

// Serial returns the range of one serial.
func Serial(n uint64) Range { return Range{n, n} }

// Certificates are those of one CA that are revoked.
type Certificates struct {
	CA      ssh.PublicKey
	Serials []Range  // in any order, overlapping or not
	KeyIDs  []string // exact; slow in sshd (a second for 100,000), so for what has no serial alone
}

// List is what a KRL says. Its order and its repeats do not matter: what Marshal writes is the same for the
// same content.
type List struct {
	Version   uint64    // 1 at least; rises with every change
	Generated time.Time // whole seconds
	Comment   string
	CAs       []Certificates
	Keys      []ssh.PublicKey // whole keys; that of a CA revokes every certificate that it has signed
	Hashes    []Hash          // the same by their hash, in fewer bytes: OpenSSH from 7.9 on
}

// maxText bounds the comment and key IDs, which go into sshd's log.
const maxText = 1024

// canonical returns the list in the one order in which it is written, ranges merged, repeats and empty sections
// left out, or says what cannot be written.
func (l List) canonical() (List, error) {
	if l.Version == 0 {
		return l, fmt.Errorf("%w: version 0", ErrInvalid)
	}
	if l.Generated.Unix() < 0 {
		return l, fmt.Errorf("%w: made before 1970", ErrInvalid)
	}
	if err := checkText("comment", l.Comment); err != nil {
		return l, err
	}
	out := List{Version: l.Version, Generated: time.Unix(l.Generated.Unix(), 0).UTC(), Comment: l.Comment}
	var err error
	if out.CAs, err = mergeCAs(l.CAs); err != nil {
		return l, err
	}
	for _, k := range l.Keys {
		if err := checkPlain(k); err != nil {
			return l, err
		}
		out.Keys = append(out.Keys, k)
	}
	// Short lists: package sort has one copy of its code for all of them, slices one for each type, and sega is to stay small.
	sort.Slice(out.Keys, func(i, j int) bool { return compareKeys(out.Keys[i], out.Keys[j]) < 0 })
	out.Keys = slices.CompactFunc(out.Keys, func(a, b ssh.PublicKey) bool { return compareKeys(a, b) == 0 })
	out.Hashes = append(out.Hashes, l.Hashes...)
	sort.Slice(out.Hashes, func(i, j int) bool { return bytes.Compare(out.Hashes[i][:], out.Hashes[j][:]) < 0 })
	out.Hashes = slices.Compact(out.Hashes)
	return out, nil
}

// mergeCAs makes one section of all of a CA.
func mergeCAs(all []Certificates) (out []Certificates, err error) {
	byCA := map[string]int{}
	for _, c := range all {
		if err := checkPlain(c.CA); err != nil {
			return nil, err
		}
		blob := string(c.CA.Marshal())
		i, known := byCA[blob]
		if !known {
			i = len(out)
			byCA[blob] = i
			out = append(out, Certificates{CA: c.CA})
		}
		out[i].Serials = append(out[i].Serials, c.Serials...)
		out[i].KeyIDs = append(out[i].KeyIDs, c.KeyIDs...)
	}
	for i := range out {
		if out[i].Serials, err = mergeRanges(out[i].Serials); err != nil {
			return nil, err
		}
		for _, id := range out[i].KeyIDs {
			if err := checkText("key ID", id); err != nil || id == "" {
				return nil, cmp.Or(err, fmt.Errorf("%w: an empty key ID", ErrInvalid))
			}
		}
		slices.Sort(out[i].KeyIDs)
		out[i].KeyIDs = slices.Compact(out[i].KeyIDs)
	}
	out = slices.DeleteFunc(out, func(c Certificates) bool { return len(c.Serials) == 0 && len(c.KeyIDs) == 0 })
	sort.Slice(out, func(i, j int) bool { return compareKeys(out[i].CA, out[j].CA) < 0 })
	return out, nil
}

// mergeRanges sorts ranges and joins those that overlap or touch. It takes its argument over.
func mergeRanges(all []Range) ([]Range, error) {
	for _, r := range all {
		if r.First == 0 || r.Last < r.First {
			return nil, fmt.Errorf("%w: serials from %d to %d", ErrInvalid, r.First, r.Last)
		}
	}
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	out := all[:0]
	for _, r := range all {
		if n := len(out); n > 0 && (out[n-1].Last == math.MaxUint64 || r.First <= out[n-1].Last+1) {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

func checkText(what, s string) error {
	if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("%w: a %s that is not up to %d characters of printable ASCII", ErrInvalid, what, maxText)
	}
	return nil
}

// checkPlain wants a key that OpenSSH itself could compare with: a plain one, in its canonical form.
func checkPlain(key ssh.PublicKey) error {
	if key == nil {
		return fmt.Errorf("%w: no key", ErrInvalid)
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return fmt.Errorf("%w: a certificate where a key must stand; name its CA and its serial", ErrInvalid)
	}
	return nil
}

// plain is the key that a certificate is of.
func plain(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

func compareKeys(a, b ssh.PublicKey) int { return bytes.Compare(a.Marshal(), b.Marshal()) }

// Revokes reports whether sshd would refuse a key or certificate by this list (ssh_krl_check_key): its key,
// its CA's key, its key ID, or its serial, which is never 0.
func (l List) Revokes(key ssh.PublicKey) bool {
	if l.revokesKey(plain(key)) {
		return true
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return false
	}
	if l.revokesKey(cert.SignatureKey) {
		return true
	}
	return slices.ContainsFunc(l.CAs, func(c Certificates) bool {
		return compareKeys(c.CA, cert.SignatureKey) == 0 && c.revokes(cert.Serial, cert.KeyId)
	})
}

func (l List) revokesKey(key ssh.PublicKey) bool {
	return slices.ContainsFunc(l.Keys, func(k ssh.PublicKey) bool { return compareKeys(k, key) == 0 }) || slices.Contains(l.Hashes, HashOf(key))
}

func (c Certificates) revokes(serial uint64, id string) bool {
	return slices.Contains(c.KeyIDs, id) || serial != 0 && slices.ContainsFunc(c.Serials, func(r Range) bool { return r.First <= serial && serial <= r.Last })
}
