//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"sega/cmd/segad/dev/devtest"
)

// sessionLife is how long AWS's sessions live here: a client that runs longer has to renew.
const sessionLife = 10 * time.Second

// askSTS is a program that stays: for each line that it reads it asks who it is, and prints that and the key in use.
const askSTS = `
import sys, boto3
session = boto3.Session()
client = session.client("sts")
for line in sys.stdin:
    try:
        print(client.get_caller_identity()["Arn"], session.get_credentials().get_frozen_credentials().access_key, flush=True)
    except Exception as e:
        print("failed:", str(e).replace("\n", " "), flush=True)
`

// askCLI does the same by the AWS CLI, a process for each question.
const askCLI = `while read -r line; do
  /usr/bin/aws sts get-caller-identity --query Arn --output text 2>&1 | tail -n 1 | tr '\n' ' '
  /usr/bin/aws configure export-credentials --format env-no-export 2>/dev/null | sed -n s/AWS_ACCESS_KEY_ID=//p
  echo
done`

// extends is who goes on with credentials from EC2's metadata that have ended: where they end within minutes
// botocore takes that for a fault of the service, and asks again after five minutes or more.
const extends = "metadata, boto3"

// TestExpiry runs AWS's own clients through the end of the credentials that they began with, by each way
// in which sega gives them, then through a revocation.
func TestExpiry(t *testing.T) {
	devtest.Need(t, "/usr/bin/aws", "/usr/bin/python3")
	e := devtest.UpWith(t, "--aws-life", sessionLife.String())
	p := e.LoggedIn(alice)
	profile := write(t, filepath.Join(t.TempDir(), "config"), "[profile dev]\ncredential_process = sega credential-process dev-admin\n")
	env, s := serving(t, p, "dev-admin", "--imds")
	endpoint, metadata := pick(env, "AWS_CONTAINER_"), pick(env, "AWS_EC2_METADATA_")
	if len(endpoint) != 2 || len(metadata) != 2 {
		t.Fatalf("serve prints %d variables", len(env))
	}
	python, cli := []string{"/usr/bin/python3", "-c", askSTS}, []string{"sh", "-c", askCLI}
	var clients []*client
	first := map[*client]string{} // access key IDs
	for _, tt := range []struct {
		name  string
		ends  bool // it has what it was started with, and no more
		argv  []string
		asked []string
	}{
		{"exec, boto3", false, []string{"sega", "exec", "dev-admin", "--"}, python},
		{"exec, aws", false, []string{"sega", "exec", "dev-admin", "--"}, cli},
		{"serve, boto3", false, append([]string{"env"}, endpoint...), python},
		{"serve, aws", false, append([]string{"env"}, endpoint...), cli},
		{extends, false, append([]string{"env"}, metadata...), python},
		{"metadata, aws", false, append([]string{"env"}, metadata...), cli},
		{"credential_process, boto3", false, []string{"env", "AWS_CONFIG_FILE=" + profile, "AWS_PROFILE=dev"}, python},
		{"credential_process, aws", false, []string{"env", "AWS_CONFIG_FILE=" + profile, "AWS_PROFILE=dev"}, cli},
		{"exec --env, boto3", true, []string{"sega", "exec", "dev-admin", "--env", "--"}, python},
		{"without an agent, boto3", true, []string{"sega", "exec", "dev-admin", "--no-agent", "--"}, python},
		{"env, aws", true, []string{"sh", "-c", `eval "$(sega env dev-admin)"; exec "$@"`, "sh"}, cli},
	} {
		c := startClient(t, p, tt.name, tt.ends, append(tt.argv, tt.asked...)...)
		clients, first[c] = append(clients, c), c.key(t)
	}
	t.Run("Go", func(t *testing.T) { askByGo(t, e, map[string][]string{"endpoint": endpoint, "metadata": metadata}) })
	for _, key := range first {
		devtest.Eventually(t, patience, "the session does not end", func() error { return sessionEnded(e, key) })
	}
	for _, c := range clients {
		switch again := c.ask(t); {
		case c.name == extends:
		case c.ends && !strings.Contains(again, "expired"):
			t.Errorf("%s: with credentials that have ended it says %q", c.name, again)
		case !c.ends && (!strings.HasPrefix(again, aliceARN+" ") || strings.Contains(again, first[c])):
			t.Errorf("%s: it began with %s, and then: %q", c.name, first[c], again)
		}
	}
	expect(t, e.LoggedIn(sam).Sega("revoke", "user", alice, "--yes", "--reason", "test"), 0)
	testRevokedServe(t, env)
	for _, c := range clients {
		if c.ends || c.name == extends || !strings.HasSuffix(c.name, ", boto3") { // one of each way: the CLI takes its time to give up
			continue
		}
		if answer := c.ask(t); !strings.Contains(answer, "access was revoked: test") {
			t.Errorf("%s: after the revocation it says %q", c.name, answer)
		}
	}
	if err := s.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("serve ends with %v", err)
	}
}

// testRevokedServe: SDKs are told what does not mend by asking again, and by whom it was.
func testRevokedServe(t *testing.T, env map[string]string) {
	t.Helper()
	devtest.Eventually(t, patience, "the endpoint", func() error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, env["AWS_CONTAINER_CREDENTIALS_FULL_URI"], nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", env["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), `"code":"revoked"`)) {
			err = fmt.Errorf("%d %d bytes", resp.StatusCode, len(body))
		}
		return err
	})
}

// serving starts `sega serve` and returns what it says to set.
func serving(t *testing.T, p *devtest.Person, args ...string) (map[string]string, *exec.Cmd) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := p.Command(ctx, "sega", append([]string{"serve", "--format", "json"}, args...)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.Wait() })
	var env map[string]string
	if err := json.NewDecoder(out).Decode(&env); err != nil {
		t.Fatal(err)
	}
	return env, c
}

// pick are variables with a prefix, as NAME=VALUE.
func pick(env map[string]string, prefix string) (out []string) {
	for name, value := range env {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name+"="+value)
		}
	}
	slices.Sort(out)
	return out
}

// client is a program that asks STS when it is told to.
type client struct {
	name string
	ends bool
	in   io.Writer
	out  *bufio.Reader
}

func startClient(t *testing.T, p *devtest.Person, name string, ends bool, argv ...string) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := p.Command(ctx, argv[0], argv[1:]...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	c.Env = append(c.Env, "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.Wait() })
	return &client{name: name, ends: ends, in: in, out: bufio.NewReader(out)}
}

// ask returns one line that is not empty.
func (c *client) ask(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(c.in, "ask\n"); err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	for {
		line, err := c.out.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
}

// key asks, and returns the access key ID that was used.
func (c *client) key(t *testing.T) string {
	t.Helper()
	answer := strings.Fields(c.ask(t))
	if len(answer) != 2 || answer[0] != aliceARN {
		t.Fatalf("%s: %q", c.name, answer)
	}
	return answer[1]
}

// sessionEnded reads the double's own records.
func sessionEnded(e *devtest.Env, key string) error {
	raw, err := os.ReadFile(filepath.Join(e.Data, "sts.json"))
	if err != nil {
		return err
	}
	var all []struct {
		KeyID   string    `json:"access_key_id"`
		Expires time.Time `json:"expires"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	for _, s := range all {
		if s.KeyID == key {
			if left := time.Until(s.Expires); left > 0 {
				return fmt.Errorf("it lives for another %s", left)
			}
			return nil
		}
	}
	return errors.New("it is not known")
}

// askByGo asks by AWS's SDK for Go, in this process.
func askByGo(t *testing.T, e *devtest.Env, ways map[string][]string) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
				t.Setenv(name, "")
			}
			t.Setenv("HOME", t.TempDir())
			for name, value := range e.Env {
				t.Setenv(name, value)
			}
			for _, kv := range way {
				name, value, _ := strings.Cut(kv, "=")
				t.Setenv(name, value)
			}
			c, err := config.LoadDefaultConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			who, err := awssts.NewFromConfig(c).GetCallerIdentity(t.Context(), nil)
			if err != nil || who.Arn == nil || *who.Arn != aliceARN {
				t.Errorf("%v", err)
			}
		})
	}
}
