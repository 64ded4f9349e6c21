package krl

import (
	"bytes"
	"errors"
	"hash/fnv"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// FuzzMarshal makes a list of any bytes: what is written is read as the same, and one in so many is shown to
// `ssh-keygen -Q` besides.
func FuzzMarshal(f *testing.F) {
	f.Add(uint64(1), int64(1), "sega", []byte{0, 1, 1, 2, 2, 9, 12, 0, 200, 3, 255, 255})
	f.Add(uint64(1<<63), int64(1<<40), "", []byte{})
	f.Add(uint64(0), int64(-1), "\x00", []byte{4, 0, 0})
	f.Add(uint64(7), int64(1772366400), "x", bytes.Repeat([]byte{0, 1, 0, 1, 5, 3, 2, 9, 9, 3, 1, 4}, 40))
	names := []string{"front CA", "host CA", "hop CA"}
	f.Fuzz(func(t *testing.T, version uint64, generated int64, comment string, content []byte) {
		l := fuzzed(t, names, version, generated, comment, content)
		data, err := l.Marshal()
		if err != nil {
			if !errors.Is(err, ErrInvalid) || data != nil {
				t.Fatalf("%d bytes, %v", len(data), err)
			}
			return
		}
		back, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if again := marshal(t, back); !bytes.Equal(again, data) {
			t.Fatalf("came back as\n%x\nwas\n%x", again, data)
		}
		sameAnswers(t, l, back)
		if sampled(data) {
			dump(t, writeFile(t, "fuzz.krl", data)) // fails where ssh-keygen refuses it
		}
	})
}

// sampled picks one list in 64: a process for each is slow.
func sampled(data []byte) bool {
	h := fnv.New32a()
	_, _ = h.Write(data)
	return h.Sum32()%64 == 0
}

// fuzzed reads entries of three bytes: what, and two that say which.
func fuzzed(t testing.TB, names []string, version uint64, generated int64, comment string, content []byte) List {
	l := List{Version: version, Generated: time.Unix(generated, 0), Comment: comment}
	for len(content) >= 3 {
		what, a, b := content[0], content[1], content[2]
		content = content[3:]
		c := Certificates{CA: public(t, names[int(what/8)%len(names)])}
		switch what % 8 {
		case 0, 1:
			c.Serials = []Range{Serial(uint64(a)<<8 | uint64(b))}
		case 2:
			c.Serials = []Range{{uint64(a), uint64(a) + uint64(b)}}
		case 3:
			c.Serials = []Range{{uint64(a)<<56 | 1, uint64(a)<<56 | 1 + uint64(b)}}
		case 4:
			c.KeyIDs = []string{string([]byte{a, b})}
		case 5:
			l.Keys = append(l.Keys, public(t, names[int(a)%len(names)]))
		default:
			l.Hashes = append(l.Hashes, Hash{a, b})
		}
		l.CAs = append(l.CAs, c)
	}
	return l
}

// sameAnswers holds what was written against what is read, about serials at the edges of every range.
func sameAnswers(t *testing.T, was, is List) {
	for _, c := range was.CAs {
		for _, r := range c.Serials {
			for _, n := range []uint64{r.First - 1, r.First, r.Last, r.Last + 1} {
				cert := &ssh.Certificate{Key: public(t, "x"), SignatureKey: c.CA, Serial: n, KeyId: "not listed, for it is long"}
				if was.Revokes(cert) != is.Revokes(cert) {
					t.Fatalf("serial %d: %v was, %v is", n, was.Revokes(cert), is.Revokes(cert))
				}
			}
		}
	}
}

// FuzzParse: what is accepted has one form, and ssh-keygen takes that form.
func FuzzParse(f *testing.F) {
	f.Add(marshal(f, everyKind(f)))
	f.Add(marshal(f, List{Version: 1, Generated: made}))
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if again := marshal(t, l); !bytes.Equal(again, data) {
			t.Fatalf("came back as\n%x\nwas\n%x", again, data)
		}
		if sampled(data) {
			dump(t, writeFile(t, "fuzz.krl", data))
		}
	})
}

// FuzzVerify: nothing but a signature of these bytes verifies.
func FuzzVerify(f *testing.F) {
	data := marshal(f, everyKind(f))
	by := signer(f, "hop CA")
	sig, err := Sign(data, by)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, sig []byte) {
		if err := Verify(data, sig, []ssh.PublicKey{by.PublicKey()}); err != nil && !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
		if Verify(append(bytes.Clone(data), 0), sig, []ssh.PublicKey{by.PublicKey()}) == nil {
			t.Fatal("verifies for other bytes")
		}
	})
}
