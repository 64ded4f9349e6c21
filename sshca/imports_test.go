package sshca

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The package decides and does nothing else: no file, no network, no clock of its own, and nothing
// that would make the laptop's binary heavy.
func TestImports(t *testing.T) {
	allowed := map[string]bool{
		"bytes": true, "crypto/rand": true, "crypto/rsa": true, "crypto/sha256": true, "crypto/sha512": true, "encoding/base64": true, "encoding/hex": true, "encoding/pem": true, "errors": true, "fmt": true,
		"maps": true, "math": true, "net/netip": true, "slices": true, "strconv": true, "strings": true, "time": true, "golang.org/x/crypto/ssh": true,
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		files++
		source, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), source, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			if path, _ := strconv.Unquote(spec.Path.Value); !allowed[path] {
				t.Errorf("%s imports %s", e.Name(), path)
			}
		}
		if strings.Contains(string(source), "time.Now") {
			t.Errorf("%s reads the clock", e.Name())
		}
	}
	if files == 0 {
		t.Error("no files looked at")
	}
}
