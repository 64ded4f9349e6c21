package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/state"
)

// TestHosts stores a host, numbers its bundles, and puts another in its place.
func TestHosts(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		h := state.EnrolledHost{Name: "db-1", Machine: "mch_1", Terms: state.HostTerms{Address: "db-1:22", Logins: []string{"deploy"}, Labels: map[string]string{"env": "dev"}, Groups: []string{"sre"}},
			HostKeys: []string{"ssh-ed25519 AAAA"}, Method: "token", Enrolled: noon}
		d.write(func(ctx context.Context, q state.Querier) error { return state.PutHost(ctx, q, h) })
		byName := func(ctx context.Context, q state.Querier) (state.EnrolledHost, error) {
			return state.HostByName(ctx, q, "db-1")
		}
		want(d, byName, h)
		number := func(digest string, floor, version int64) {
			t.Helper()
			d.write(func(ctx context.Context, q state.Querier) error {
				got, err := state.NumberBundle(ctx, q, h.Machine, digest, floor)
				if err == nil && got != version {
					t.Errorf("bundle %q over %d has version %d, want %d", digest, floor, got, version)
				}
				return err
			})
		}
		number("a", 100, 100)
		number("a", 200, 100)
		number("b", 50, 101) // the clock was set back
		number("c", 300, 300)
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.SawHost(ctx, q, h.Machine, noon.Add(time.Minute), 3, 4)
		})
		h.Seen, h.Trust, h.KRL, h.Version, h.Digest = noon.Add(time.Minute), 3, 4, 300, "c"
		want(d, func(ctx context.Context, q state.Querier) (state.EnrolledHost, error) {
			return state.HostByMachine(ctx, q, "mch_1")
		}, h)
		anew := state.EnrolledHost{Name: "db-1", Machine: "mch_2", Terms: state.HostTerms{Address: "db-1:2222"}, Method: "aws", Enrolled: noon.Add(time.Hour)}
		d.write(func(ctx context.Context, q state.Querier) error { return state.PutHost(ctx, q, anew) })
		anew.Version = 300 // versions go on
		want(d, func(ctx context.Context, q state.Querier) ([]state.EnrolledHost, error) {
			return state.EnrolledHosts(ctx, q)
		}, []state.EnrolledHost{anew})
	})
}

// TestHostTermsAndInstances are kept by a token's hash, and once by an instance.
func TestHostTermsAndInstances(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		terms := state.HostTerms{Address: "db-1:22", Logins: []string{"deploy"}, PlainKeys: true}
		d.write(func(ctx context.Context, q state.Querier) error {
			return errors.Join(state.AddHostTerms(ctx, q, []byte("hash"), terms), state.UseInstance(ctx, q, "aws/1/i-1", noon))
		})
		want(d, func(ctx context.Context, q state.Querier) (state.HostTerms, error) {
			return state.HostTermsOf(ctx, q, []byte("hash"))
		}, terms)
		d.write(func(ctx context.Context, q state.Querier) error {
			if _, err := state.HostTermsOf(ctx, q, []byte("other")); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("terms of nothing: %v", err)
			}
			if err := state.UseInstance(ctx, q, "aws/1/i-1", noon); !errors.Is(err, state.ErrExists) {
				t.Errorf("an instance twice: %v", err)
			}
			return nil
		})
	})
}

// TestHostTokensGo: those of hosts that have expired, with their terms, and no others.
func TestHostTokensGo(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		for hash, expires := range map[string]time.Time{"old": noon.Add(-time.Hour), "good": noon.Add(time.Hour), "bastion": noon.Add(-time.Hour)} {
			d.write(func(ctx context.Context, q state.Querier) error {
				err := state.AddJoinToken(ctx, q, state.JoinToken{Hash: []byte(hash), Name: hash, Kind: hash, Expires: expires})
				if hash != "bastion" {
					err = errors.Join(err, state.AddHostTerms(ctx, q, []byte(hash), state.HostTerms{Address: hash + ":22"}))
				}
				return err
			})
		}
		d.write(func(ctx context.Context, q state.Querier) error { return state.DropHostTokens(ctx, q, noon) })
		left := func(table string, hashes ...string) {
			want(d, func(ctx context.Context, q state.Querier) (n int, err error) {
				return n, q.QueryRowContext(ctx, `SELECT count(*) FROM `+table).Scan(&n)
			}, len(hashes))
			for _, hash := range hashes {
				want(d, func(ctx context.Context, q state.Querier) (n int, err error) {
					return n, q.QueryRowContext(ctx, `SELECT count(*) FROM `+table+` WHERE hash=?`, []byte(hash)).Scan(&n)
				}, 1)
			}
		}
		left("host_terms", "good")
		left("join_tokens", "good", "bastion") // a spent one that came back would be good again
	})
}

// TestRevokedOnHost finds the sessions of one host that a revocation has ended, and no others.
func TestRevokedOnHost(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		add := func(id, host, sub, login string, started time.Time) {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.AddSSH(ctx, q, state.SSHSession{ID: id, Bearer: state.Bearer{LoginID: login, Issuer: issuer, Subject: sub, Epoch: 1, Rev: 1}, Host: host, Login: "deploy", Started: started})
			})
		}
		add("ssh_person", "db-1", "alice", "ses_a", noon)
		add("ssh_since", "db-1", "alice", "ses_a2", noon.Add(time.Minute)) // after she was let in again
		add("ssh_login", "db-1", "bob", "ses_b", noon)
		add("ssh_itself", "db-1", "carol", "ses_c", noon)
		add("ssh_lives", "db-1", "carol", "ses_c", noon)
		add("ssh_old", "db-1", "bob", "ses_b", noon.Add(-time.Hour))
		add("ssh_there", "db-2", "bob", "ses_b", noon)
		add("ssh_access", "db-1", "carol", "ses_c", noon)
		add("ssh_hop", "db-1", "carol", "ses_c", noon)
		d.write(func(ctx context.Context, q state.Querier) error {
			return errors.Join(state.AddSSHCerts(ctx, q, "ssh_lives", state.SSHCerts{Access: 9, Hop: 7}),
				state.AddSSHCerts(ctx, q, "ssh_access", state.SSHCerts{Access: 7, Hop: 9}),
				state.AddSSHCerts(ctx, q, "ssh_hop", state.SSHCerts{Access: 10, Hop: 8}),
				state.RevokeCert(ctx, q, state.RevokedCert{Profile: "access", Serial: 7, Named: true, ValidBefore: noon.Add(time.Hour)}),
				state.RevokeCert(ctx, q, state.RevokedCert{Profile: "hop", Serial: 8, Named: true, ValidBefore: noon.Add(time.Hour)}))
		})
		d.write(func(ctx context.Context, q state.Querier) error {
			at := noon.Add(time.Second)
			return errors.Join(state.AddRevocation(ctx, q, state.Revocation{Index: 1, Issuer: issuer, Subject: "alice", At: at}),
				state.AddRevocation(ctx, q, state.Revocation{Index: 2, LoginID: "ses_b", At: at}),
				state.AddRevocation(ctx, q, state.Revocation{Index: 3, SessionID: "ssh_itself", At: at}))
		})
		want(d, func(ctx context.Context, q state.Querier) ([]string, error) {
			return state.RevokedOnHost(ctx, q, "db-1", noon.Add(-time.Minute))
		}, []string{"ssh_access", "ssh_hop", "ssh_itself", "ssh_login", "ssh_person"})
	})
}

// TestHopKeys are those of sessions that are opening, until something ends them.
func TestHopKeys(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		l := login("ses_1")
		k := state.HopKey{Fingerprint: "SHA256:a", Line: "ssh-ed25519 AAAA", Host: "db-1", Login: "deploy", SessionID: "ssh_1", From: "192.0.2.9/32", Options: "restrict,pty", Expires: noon.Add(time.Minute)}
		d.write(func(ctx context.Context, q state.Querier) error {
			return errors.Join(state.AddSession(ctx, q, l), state.AddHopKey(ctx, q, k),
				state.AddSSH(ctx, q, state.SSHSession{ID: "ssh_1", Bearer: bearer(l), Host: "db-1", Login: "deploy", Started: noon}))
		})
		keys := func(host, login string, now time.Time, want int) {
			t.Helper()
			d.write(func(ctx context.Context, q state.Querier) error {
				got, err := state.HopKeys(ctx, q, host, login, now)
				if len(got) != want || want == 1 && !cmp.Equal(got[0], k) {
					t.Errorf("keys of %s@%s: %+v, want %d", login, host, got, want)
				}
				return err
			})
		}
		keys("db-1", "deploy", noon, 1)
		keys("db-1", "root", noon, 0)
		keys("db-2", "deploy", noon, 0)
		keys("db-1", "deploy", noon.Add(time.Minute), 0)
		for _, end := range []struct {
			harm, mend func(context.Context, state.Querier) error
		}{
			{func(ctx context.Context, q state.Querier) error {
				return state.SetSSHState(ctx, q, "ssh_1", state.SSHLive)
			},
				func(ctx context.Context, q state.Querier) error {
					return state.SetSSHState(ctx, q, "ssh_1", state.SSHOpening)
				}},
			{func(ctx context.Context, q state.Querier) error {
				return state.EndSession(ctx, q, "ses_1", "logout", noon)
			}, nil},
		} {
			d.write(end.harm)
			keys("db-1", "deploy", noon, 0)
			if end.mend != nil {
				d.write(end.mend)
				keys("db-1", "deploy", noon, 1)
			}
		}
		want(d, func(ctx context.Context, q state.Querier) (state.HopKey, error) {
			return state.HopKeyByFingerprint(ctx, q, "SHA256:a")
		}, k)
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.DropHopKeys(ctx, q, noon.Add(time.Hour))
		})
		d.write(func(ctx context.Context, q state.Querier) error {
			if _, err := state.HopKeyByFingerprint(ctx, q, "SHA256:a"); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("it is kept: %v", err)
			}
			return nil
		})
	})
}

// TestAccountNames are one person's each, and each person has one.
func TestAccountNames(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		for _, sub := range []string{"a", "b"} {
			s := login("ses_" + sub)
			s.Subject, s.TokenHash, s.Groups = sub, []byte(sub), []string{"sre"}
			d.write(func(ctx context.Context, q state.Querier) error { return state.AddSession(ctx, q, s) })
		}
		for _, give := range []struct{ login, sub string }{{"pat", "a"}, {"pat", "b"}, {"patricia", "a"}} {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.GiveAccountName(ctx, q, give.login, issuer, give.sub, noon)
			})
		}
		names := map[string]string{}
		members, err := read(d, func(ctx context.Context, q state.Querier) ([]state.Member, error) {
			return state.Members(ctx, q, noon.Add(-time.Hour))
		})
		for _, m := range members {
			names[m.Subject] = m.Login
			want(d, func(ctx context.Context, q state.Querier) (state.Member, error) {
				return state.MemberByID(ctx, q, issuer, m.Subject, noon.Add(-time.Hour))
			}, m)
		}
		if diff := cmp.Diff(map[string]string{"a": "pat", "b": ""}, names); err != nil || diff != "" {
			t.Errorf("%v, names (-want +got):\n%s", err, diff)
		}
		for login, taken := range map[string]bool{"pat": true, "patricia": false} {
			want(d, func(ctx context.Context, q state.Querier) (bool, error) { return state.AccountNameTaken(ctx, q, login) }, taken)
		}
		wantErr(d, func(ctx context.Context, q state.Querier) (state.Member, error) {
			return state.MemberByID(ctx, q, issuer, "c", noon.Add(-time.Hour))
		}, state.ErrNotFound)
	})
}

// TestHostLogins: a session is used once, and a count is stored by whoever has read the one before.
func TestHostLogins(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		use := func(session, connection string) error {
			return d.try(func(ctx context.Context, q state.Querier) error {
				return state.UseSession(ctx, q, session, connection, noon)
			})
		}
		of := func(ctx context.Context, q state.Querier) (string, error) {
			return state.LoginOfSession(ctx, q, "ssh_1")
		}
		want(d, of, "")
		if err := use("ssh_1", "a"); err != nil {
			t.Fatal(err)
		}
		if err := use("ssh_1", "b"); !errors.Is(err, state.ErrExists) {
			t.Errorf("used twice: %v", err)
		}
		want(d, of, "a")
		d.write(func(ctx context.Context, q state.Querier) error {
			return errors.Join(state.DropLogins(ctx, q, noon.Add(time.Second)), state.UseReport(ctx, q, "x", noon))
		})
		want(d, of, "")
		for id, used := range map[string]bool{"x": true, "y": false} {
			want(d, func(ctx context.Context, q state.Querier) (bool, error) { return state.ReportUsed(ctx, q, id) }, used)
		}

		leave := func(line string, at time.Time) error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.LeaveOut(ctx, q, "db-1", line, at) })
		}
		if err := errors.Join(leave("1", noon), leave("2", noon.Add(time.Second))); err != nil {
			t.Fatal(err)
		}
		if err := leave("1", noon); !errors.Is(err, state.ErrExists) {
			t.Errorf("left out twice: %v", err)
		}
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.DropLogins(ctx, q, noon.Add(time.Second))
		})
		for line, known := range map[string]bool{"1": false, "2": true} {
			want(d, func(ctx context.Context, q state.Querier) (bool, error) { return state.LeftOut(ctx, q, "db-1", line) }, known)
		}
		for host, n := range map[string]int{"db-1": 1, "db-2": 0} {
			want(d, func(ctx context.Context, q state.Querier) (int, error) { return state.LeftOutLines(ctx, q, host) }, n)
		}

		none, some := state.Bypasses{Host: "db-1"}, state.Bypasses{Host: "db-1", Since: noon, Events: 5, LeftOut: 2}
		count := func(was, now state.Bypasses) error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.CountBypasses(ctx, q, was, now) })
		}
		if err := count(none, some); err != nil {
			t.Fatal(err)
		}
		if err := count(none, some); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("counted on what is no more: %v", err)
		}
		want(d, func(ctx context.Context, q state.Querier) (state.Bypasses, error) {
			return state.BypassesOf(ctx, q, "db-1")
		}, some)
		for before, n := range map[time.Time]int{noon: 0, noon.Add(time.Millisecond): 1} {
			got, err := read(d, func(ctx context.Context, q state.Querier) ([]state.Bypasses, error) {
				return state.UntoldBypasses(ctx, q, before)
			})
			if err != nil || len(got) != n {
				t.Errorf("before %v: %+v, %v", before, got, err)
			}
		}
	})
}
