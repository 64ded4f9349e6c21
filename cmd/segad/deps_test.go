package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed is the table of design.md §3: what of ours a package may import. "…/" covers everything
// below. What is not in the table may be imported by nobody's leave: a new package gets a row.
var allowed = []struct {
	pkg  string
	may  []string
	whys string
}{
	{"cmd/sega", []string{"broker/api", "broker/api/dpop", "broker/client", "idp", "keychain", "keychain/atomicfile", "keychain/secret", "audit", "audit/query", "audit/recording", "audit/recording/export", "audit/recording/screen", "sshca", "cmd/sega/agent", "cmd/sega/awsconfig", "cmd/sega/browse", "cmd/sega/columns", "cmd/sega/doctor", "cmd/sega/endpoint", "cmd/sega/host", "cmd/sega/inherited", "cmd/sega/picker"}, "a laptop carries no server"},
	{"cmd/sega/agent", []string{"broker/api", "keychain/secret", "sshca", "cmd/sega/endpoint"}, "how a session is stored and shown to the broker is the command's"},
	{"cmd/sega/awsconfig", []string{"keychain/atomicfile"}, "files of AWS's tools"},
	{"cmd/sega/columns", nil, "a leaf: segad prints tables, too"},
	{"cmd/sega/endpoint", []string{"broker/api", "keychain/secret"}, "what AWS's SDKs ask, over HTTP"},
	{"cmd/sega/host", []string{"broker/api", "broker/api/dpop", "broker/client", "keychain/atomicfile", "keychain/secret", "sshca", "sshca/krl"}, "runs on hosts: it links no more than the rest of sega does"},
	{"cmd/sega/inherited", nil, "what the process was started with: it runs before everything"},
	{"cmd/sega/doctor", []string{"broker/api", "broker/client", "idp"}, "checks: how what they look at is reached is the command's"},
	{"cmd/sega/picker", []string{"cmd/sega/tui"}, "a screen: which roles there are is the command's"},
	{"cmd/sega/browse", []string{"audit", "audit/query", "broker/api", "cmd/sega/tui"}, "a screen: how the broker is reached is the command's"},
	{"cmd/sega/tui", []string{"cmd/sega/tui/unasked"}, "what screens are made of"},
	{"cmd/sega/tui/tuitest", []string{"cmd/sega/tui"}, "how screens are tested"},
	{"cmd/sega/tui/unasked", nil, "initialised before all else"},
	{"cmd/segad", []string{"*"}, "the wiring"},
	{"cmd/segad/…", []string{"*"}, "the wiring, and what stands in for IdP and AWS"},
	{"broker", []string{"broker/api", "broker/api/dpop", "broker/awsidentity", "broker/policy", "broker/state", "broker/awssts", "idp", "sshca", "sshca/krl", "audit", "audit/query", "audit/store", "keychain/secret"}, "no backend, no bastion"},
	{"broker/api", []string{"keychain/secret"}, "a leaf: both ends import it"},
	{"broker/api/dpop", []string{"keychain/secret"}, "a leaf: both ends import it"},
	{"broker/client", []string{"broker/api", "broker/api/dpop", "keychain/secret"}, "a client that links no server"},
	{"broker/policy", nil, "a pure decision"},
	{"broker/state", nil, "records, no decisions and no events"},
	{"broker/awsidentity", nil, "what AWS says of an instance"},
	{"broker/awssts", []string{"keychain/secret"}, "AWS alone"},
	{"broker/bastion/scp", []string{"broker/bastion/sftp"}, "a protocol: bytes in, values out, in the words of sftp"},
	{"broker/bastion/sftp", nil, "a protocol: bytes in, values out"},
	{"broker/bastion", []string{"broker/api", "broker/bastion/proxyproto", "broker/bastion/scp", "broker/bastion/sftp", "sshca", "audit", "audit/recording", "audit/recording/bucket", "keychain/atomicfile"}, "runs in a zone without keys; meets the broker in broker/api"},
	{"broker/bastion/proxyproto", nil, "a parser"},
	{"idp", []string{"keychain/secret"}, "identity alone"},
	{"sshca", nil, "profiles and checks are pure"},
	{"sshca/krl", []string{"sshca", "keychain/atomicfile"}, "bytes of OpenSSH; what is revoked is the broker's"},
	{"sshca/signer", []string{"sshca", "sshca/softkey", "keychain/secret"}, "keys of the CAs, wherever they live"},
	{"sshca/sshtest", nil, "tests alone link it"},
	{"sshca/softkey", []string{"keychain/atomicfile", "keychain/secret"}, "keys in files"},
	{"keychain", []string{"keychain/atomicfile", "keychain/secret"}, "the laptop's secrets"},
	{"keychain/atomicfile", nil, "a leaf"},
	{"keychain/bustest", nil, "tests alone link it"},
	{"keychain/secret", nil, "a leaf"},
	{"audit", nil, "light: a reviewer's laptop links it"},
	{"audit/query", []string{"audit"}, "the language: light, a reviewer's laptop links it"},
	{"audit/store", []string{"audit", "audit/query"}, "the contract of the backends"},
	{"audit/store/backend", []string{"audit", "audit/store"}, "what backends are made of"},
	{"audit/store/…", []string{"audit", "audit/query", "audit/store"}, "its conformance suite"},
	{"audit/sqlite", []string{"audit", "audit/query", "audit/store", "audit/store/backend"}, "a backend"},
	{"audit/postgres", []string{"audit", "audit/query", "audit/store", "audit/store/backend"}, "a backend"},
	{pgtest, []string{"cmd/segad/dev/freeport"}, "a server to test against: tests alone link it"},
	{"audit/migrate", []string{"audit", "audit/store", "audit/store/backend", "audit/sqlite", "audit/postgres"}, "from one backend to the other"},
	{"audit/indexer", []string{"broker/api", "broker/client", "audit", "audit/query", "audit/recording", "audit/recording/screen"}, "runs in the reviewers' zone; meets the broker in broker/api"},
	{"audit/recording", nil, "light: a reviewer's laptop links it"},
	{"audit/recording/export", []string{"audit/recording", "audit/recording/screen"}, "what others read: asciicast, text, raw"},
	{"audit/recording/screen", []string{"audit/recording"}, "what a terminal showed"},
	{"audit/recording/bucket", nil, "objects, whatever is in them"},
}

const pgtest = "audit/postgres/pgtest"

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	c := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func rule(pkg string) (may []string, ok bool) {
	for _, r := range allowed {
		if r.pkg == pkg {
			return r.may, true
		}
	}
	for _, r := range allowed {
		if prefix, below := strings.CutSuffix(r.pkg, "…"); below && strings.HasPrefix(pkg, prefix) {
			return r.may, true
		}
	}
	return nil, false
}

func TestImports(t *testing.T) {
	for _, p := range list(t, "sega/...") {
		name := strings.TrimPrefix(p.ImportPath, "sega/")
		if name == "docs" { // holds a test alone
			continue
		}
		may, ok := rule(name)
		if !ok {
			t.Errorf("%s has no row in the table of allowed imports", name)
			continue
		}
		for _, i := range p.Imports {
			ours, isOurs := strings.CutPrefix(i, "sega/")
			if !isOurs || slices.Contains(may, "*") || slices.Contains(may, ours) {
				if isOurs && strings.HasPrefix(ours, "cmd/segad/dev") && name != "cmd/segad" && name != pgtest && !strings.HasPrefix(name, "cmd/segad/dev") {
					t.Errorf("%s imports %s: nobody outside of segad dev does", name, ours)
				}
				continue
			}
			t.Errorf("%s imports %s: the table does not allow it", name, ours)
		}
	}
}

// TestWhatSegaLinks: sega runs at every credential_process call and on laptops: no SQL, no cloud
// SDK, nothing of the servers.
func TestWhatSegaLinks(t *testing.T) {
	forbidden := map[string]string{
		"modernc.org/": "SQL", "github.com/jackc/": "SQL", "github.com/aws/": "a cloud SDK", "gocloud.dev": "a cloud SDK", "cloud.google.com/": "a cloud SDK",
		"github.com/cedar-policy/": "policy", "github.com/prometheus/": "metrics of servers", "go.step.sm/": "CA keys", "github.com/okta/": "the directory",
		"sega/broker/state": "the servers", "sega/broker/policy": "the servers", "sega/broker/bastion": "the servers", "sega/broker/awssts": "the servers",
		"sega/audit/sqlite": "the servers", "sega/audit/store": "the servers", "sega/cmd/segad": "the servers", "sega/sshca/softkey": "CA keys", "sega/sshca/signer": "CA keys",
	}
	found := false
	for _, p := range list(t, "sega/cmd/sega") {
		found = true
		for _, d := range p.Deps {
			if d == "sega/broker" || d == "database/sql" {
				t.Errorf("sega links %s", d)
			}
			for prefix, what := range forbidden {
				if strings.HasPrefix(d, prefix) {
					t.Errorf("sega links %s (%s)", d, what)
				}
			}
		}
	}
	if !found {
		t.Error("sega was not listed")
	}
}
