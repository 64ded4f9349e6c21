package audit

import (
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
)

// memory is a tlog.HashReader over a slice.
type memory []tlog.Hash

func (m memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(m)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		out[i] = m[index]
	}
	return out, nil
}

// TestFrontierVectors uses the published leaves and roots of Certificate Transparency's own tests.
func TestFrontierVectors(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var f Frontier
	for n, want := range roots {
		if got := f.Root(); hex.EncodeToString(got[:]) != want {
			t.Errorf("root of %d leaves is %x, want %s", n, got, want)
		}
		if n < len(leaves) {
			leaf, _ := hex.DecodeString(leaves[n])
			f.Add(tlog.RecordHash(leaf), nil)
		}
	}
}

func TestFrontierAgreesWithTlog(t *testing.T) {
	var f Frontier
	var stored memory
	for n := range int64(600) {
		leaf := tlog.RecordHash(fmt.Append(nil, n))
		want, err := tlog.StoredHashesForRecordHash(n, leaf, stored)
		if err != nil {
			t.Fatal(err)
		}
		got := f.Add(leaf, nil)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("stored hashes of leaf %d: %s", n, diff)
		}
		stored = append(stored, got...)
		root, err := tlog.TreeHash(n+1, stored)
		if err != nil {
			t.Fatal(err)
		}
		if f.Tree() != (tlog.Tree{N: n + 1, Hash: root}) {
			t.Fatalf("tree of %d is %v, want %v", n+1, f.Tree(), root)
		}
		loaded, err := LoadFrontier(n+1, stored)
		if err != nil || loaded.Tree() != f.Tree() {
			t.Fatalf("loaded %v, %v, want %v", loaded.Tree(), err, f.Tree())
		}
	}
	if _, err := LoadFrontier(700, stored); err == nil {
		t.Error("the edge was loaded from hashes that are not there")
	}
}
