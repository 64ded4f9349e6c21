package keychain

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"testing"

	"sega/keychain/secret"
)

func testHeader() header {
	return header{Backend: BackendFile, Item: "0123456789abcdef", Check: "0123456789abcdef"}
}

func FuzzParseSealed(f *testing.F) {
	raw := make([]byte, keySize)
	rand.Read(raw) // each process of the fuzzer its own, so that no seed of another opens here
	key := secret.New(raw)
	good, err := seal(testHeader(), key, map[string]secret.Secret{"a": secret.FromString("1")})
	if err != nil {
		f.Fatal(err)
	}
	phrase := testHeader()
	phrase.Backend, phrase.KDF = BackendPassphrase, newKDF()
	other, err := seal(phrase, key, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(other)
	f.Add([]byte(magic))
	f.Add([]byte(magic + "{}\n" + strings.Repeat("x", 40)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSealed(data)
		if err != nil {
			return
		}
		back, err := s.format()
		if err != nil || !slices.Equal(back, data) {
			t.Fatalf("%q becomes %q, %v", data, back, err)
		}
		if items, err := s.open(key); err == nil && !slices.Equal(data, good) && !slices.Equal(data, other) {
			t.Fatalf("a forged file opens: %v", slices.Sorted(maps.Keys(items)))
		}
	})
}

func FuzzSealRoundTrip(f *testing.F) {
	f.Add("a", []byte("1"), "b", []byte{})
	f.Add("", []byte{0xff}, "\xff", []byte("\n"))
	key := secret.New(make([]byte, keySize))
	f.Fuzz(func(t *testing.T, n1 string, v1 []byte, n2 string, v2 []byte) {
		if strings.ToValidUTF8(n1, "") != n1 || strings.ToValidUTF8(n2, "") != n2 || len(v1)+len(v2) > 1<<20 {
			return // names are constants of the program
		}
		items := map[string]secret.Secret{n1: secret.New(v1), n2: secret.New(v2)}
		data, err := seal(testHeader(), key, items)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSealed(data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.open(key)
		if err != nil || !maps.EqualFunc(items, got, secret.Secret.Equal) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(strings.Repeat("0a", 32) + "\n")
	f.Add("")
	f.Add(strings.Repeat("zz", 32))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKey(text)
		if err == nil && formatKey(k) != strings.ToLower(strings.TrimSuffix(text, "\n"))+"\n" {
			t.Fatalf("%q", text)
		}
	})
}
