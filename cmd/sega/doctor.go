package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/client"
	"sega/cmd/sega/agent"
	"sega/cmd/sega/awsconfig"
	"sega/cmd/sega/doctor"
	"sega/keychain"
	"sega/keychain/secret"
)

// examineTime bounds all of `sega doctor`, whatever hangs.
const examineTime = 8 * time.Second

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "Look for what keeps sega from working here, and say what mends it", GroupID: groupAccess, Args: atMost(0),
		Long: "Look at versions, environment, stored secrets, agent, network, certificates, clock, broker, audit log, identity provider, login,\n" +
			"policy, bastions, AWS's files and ssh. Nothing is changed and nobody is asked. It works offline and before the first login, and takes less\n" +
			"than ten seconds. With --json a finding is an object on a line: check, state (ok, warn, fail, skip), text, mend, ms.",
		Example: "  sega doctor\n  sega doctor --json | jq 'select(.state == \"fail\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.doctor(cmd.Context())
		}}
}

func (a *app) doctor(ctx context.Context) error {
	failed, err := doctor.Run(ctx, doctor.Checks(a.examined()), examineTime, a.tellFinding)
	switch {
	case ctx.Err() != nil:
		return errCancelled
	case err != nil:
		return quietly(err)
	case failed > 0:
		return kinded{fmt.Errorf("%s sega from working here", plural(failed, "finding keeps", "findings keep")), kindUnsound}
	}
	return nil
}

// tellFinding prints a finding: an object, or a line with what mends it below.
func (a *app) tellFinding(f doctor.Finding) error {
	if a.json {
		return printed(writeJSON(a.out, f))
	}
	mark := map[doctor.State]string{doctor.OK: "ok", doctor.Warn: "warn", doctor.Fail: "FAIL", doctor.Skip: "-"}[f.State]
	text := fmt.Sprintf("%-4s  %-15s  %s\n", mark, f.Check, escapeLine(f.Text))
	if f.Mend != "" {
		text += fmt.Sprintf("%23s%s\n", "→ ", escapeLine(f.Mend))
	}
	_, err := io.WriteString(a.out, text)
	return printed(err)
}

// examined is this machine for the checks. It makes no folder, writes no file and asks nobody.
func (a *app) examined() doctor.World {
	quiet := *a
	quiet.mute = true
	q := &quiet
	home, _ := a.home()
	socket, _ := a.socket()
	w := doctor.World{Version: version, Home: home, Getenv: a.getenv, Environ: a.env, Now: a.now,
		Origin:    func() (string, error) { return q.origin("") },
		Transport: q.examinedTransport,
		Explain: func(err error) (string, string) {
			e := explanationOf(err, "sega doctor")
			return e.Detail, mendOf(e.Hint)
		},
		Secrets:     q.examinedSecrets,
		Login:       q.examinedLogin,
		Agent:       a.examinedAgent(socket),
		AgentSocket: socket,
		AWS:         q.examinedAWS,
		Reach:       reach,
	}
	w.User, _ = os.UserHomeDir()
	if p, err := q.pinned(); err == nil {
		w.Pinned = &p.Configuration
		w.Observe = q.examinedLog(p.Configuration)
		w.Bastions = slices.DeleteFunc(slices.Clone(bastions(p.Configuration)), func(b api.BastionAddress) bool { return b.Address == "" })
	}
	return w
}

func (a *app) examinedTransport() (*http.Transport, error) {
	roots, err := a.roots()
	if err != nil {
		return nil, err
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true}, nil
}

// examinedStore opens the stored secrets without making a folder for them.
func (a *app) examinedStore() (*keychain.Store, error) {
	dir, err := a.home()
	if err != nil {
		return nil, err
	}
	store, err := keychain.Open(keychain.Config{Dir: filepath.Join(dir, "secrets"), Backend: a.getenv("SEGA_KEYRING_BACKEND"), Quiet: true, Now: a.now})
	return store, withKind(kindConfig, err)
}

func (a *app) examinedSecrets() (backend, where string) {
	store, err := a.examinedStore()
	if err != nil {
		return "secrets", "not opened" // why, the login's error says
	}
	d := store.Describe()
	return d.Backend, d.Text
}

// mendOf is what a hint says to whoever runs sega doctor already.
func mendOf(hint string) string {
	mend, _, _ := strings.Cut(hint, "\n")
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(mend, "run: "), "see: sega doctor"), "; ")
}

// unasked is a broker that cannot be asked from here.
type unasked struct{ why error }

func (u unasked) Status(context.Context) (api.Status, error) { return api.Status{}, u.why }
func (u unasked) Roles(context.Context) (api.Roles, error)   { return api.Roles{}, u.why }
func (u unasked) Hosts(context.Context) (api.Hosts, error)   { return api.Hosts{}, u.why }

// examinedLogin reads the stored session and does not renew it.
func (a *app) examinedLogin(context.Context) (doctor.Login, error) {
	store, err := a.examinedStore()
	if err != nil {
		return doctor.Login{}, err
	}
	raw, err := store.Get(itemSession)
	if errors.Is(err, keychain.ErrNotFound) {
		return doctor.Login{}, doctor.ErrNoLogin
	}
	if err != nil {
		return doctor.Login{}, err
	}
	s, err := unseal(raw)
	if err != nil {
		return doctor.Login{}, err
	}
	l := doctor.Login{ID: s.Session.LoginID, Origin: s.Origin, Person: personName(s.Session.Person), MFA: s.Session.MFA, Renewable: !s.Refresh.Empty(),
		Expires: s.Session.Expires, NotAfter: s.Session.NotAfter}
	roots, err := a.roots()
	if err != nil {
		l.Broker = unasked{err} // the check of SEGA_CA_FILE says why; the stored session is sound
		return l, nil
	}
	l.Broker, err = client.New(client.Config{Origin: s.Origin, RootCAs: roots, Key: s.Key, Token: func() secret.Secret { return s.Session.Token }, UserAgent: userAgent()})
	return l, err
}

// examinedLog holds a checkpoint against the one that is remembered, and remembers nothing.
func (a *app) examinedLog(pinned api.Configuration) func(context.Context, []byte) (int64, error) {
	return func(ctx context.Context, msg []byte) (int64, error) {
		verifier, err := note.NewVerifier(pinned.LogKey)
		if err != nil {
			return 0, err
		}
		dir, err := a.home()
		if err != nil {
			return 0, err
		}
		latest, err := os.ReadFile(filepath.Join(dir, checkpointFile(pinned.Origin)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		roots, err := a.roots()
		if err != nil {
			return 0, err
		}
		c, err := client.New(client.Config{Origin: pinned.Origin, RootCAs: roots, UserAgent: userAgent()})
		if err != nil {
			return 0, err
		}
		defer c.Close()
		w, err := audit.NewWitness(audit.WitnessConfig{Verifier: verifier, Latest: latest, Prove: prove(c), Remember: func([]byte) error { return nil }})
		if err != nil {
			return 0, err
		}
		err = w.Observe(ctx, msg)
		_, tree := w.Latest()
		return tree.N, err
	}
}

// examinedAgent asks a running agent how it is, and starts none.
func (a *app) examinedAgent(socket string) func(context.Context) (doctor.Agent, error) {
	return func(ctx context.Context) (doctor.Agent, error) {
		if !agent.Supported {
			return doctor.Agent{}, doctor.ErrNoAgent
		}
		reply, err := agent.Call(ctx, socket, agent.Request{Op: agent.OpStatus})
		switch {
		case errors.Is(err, agent.ErrNotRunning):
			return doctor.Agent{}, doctor.ErrNoAgent
		case err != nil:
			return doctor.Agent{}, err
		case reply.Problem != nil:
			return doctor.Agent{}, reply.Problem
		case reply.Status == nil:
			return doctor.Agent{}, withKind(kindAgent, withHint(errors.New("the agent does not say how it is"), "run: sega agent stop"))
		}
		s := reply.Status
		mend := map[string]string{agent.StateLocked: "sega agent unlock", agent.StateRevoked: "ask the security staff; after an unblock run: sega login"}[s.State]
		if mend == "" && !s.FeedAlive && a.otherNetwork(s) {
			s.State, mend = "of another SEGA_CA_FILE or proxy than this shell's", "sega agent stop"
		}
		return doctor.Agent{Version: s.Version, State: s.State, Why: s.Why, Healthy: s.FeedAlive || s.State == agent.StateEmpty, Mend: mend}, nil
	}
}

// examinedAWS reads the files of AWS's tools.
func (a *app) examinedAWS() (doctor.AWS, error) {
	seen, err := awsconfig.Look(a.getenv)
	if err != nil {
		return doctor.AWS{}, withKind(kindConfig, err)
	}
	out := doctor.AWS{Profiles: seen.Profiles, Ours: len(seen.Ours), Rivals: seen.Rivals}
	shadows, err := awsconfig.Shadows(a.getenv)
	for _, s := range shadows {
		where := fmt.Sprintf("%s in line %d of %s", s.Key, s.Line, s.File)
		switch {
		case s.Over == awsconfig.OverEndpoint:
			out.First = append(out.First, where)
		case slices.Contains(seen.Ours, s.Profile):
			out.Hidden = append(out.Hidden, fmt.Sprintf("the profile %s does not ask sega: %s comes first", s.Profile, where))
		}
	}
	return out, withKind(kindConfig, err)
}
