package state_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/state"
)

func revokeCert(c state.RevokedCert) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error { return state.RevokeCert(ctx, q, c) }
}

func krlNow(ctx context.Context, q state.Querier) (state.KRL, error) { return state.KRLState(ctx, q) }

// TestRevokedCerts follows certificates from their revocation until they are forgotten.
func TestRevokedCerts(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		host := state.RevokedCert{Profile: "host", Serial: math.MaxUint64, Named: true, ValidBefore: noon.Add(time.Hour), Index: 7, Reason: "stolen"}
		offline := state.RevokedCert{Profile: "host", Serial: 9, ValidBefore: noon.Add(2 * time.Hour), Index: 8}
		other := state.RevokedCert{Profile: "host", Serial: 10, Named: true, ValidBefore: noon.Add(2 * time.Hour), Index: 9}
		front := state.RevokedCert{Profile: "front", Serial: 9, Named: true, ValidBefore: noon.Add(time.Minute), Index: 10}
		name := func(c state.RevokedCert, names ...string) {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.NameCert(ctx, q, state.Cert{Profile: c.Profile, Serial: c.Serial, ValidBefore: c.ValidBefore}, names)
			})
		}
		name(host, "web-1", "web-1.example")
		name(other, "db-1")
		name(state.RevokedCert{Profile: "host", Serial: 11, ValidBefore: noon.Add(time.Hour)}, "web-1")
		name(front, "web-1")
		for _, c := range []state.RevokedCert{host, offline, other, front} {
			d.write(revokeCert(c))
		}
		again := host
		again.Reason, again.Index = "again", 99
		d.write(revokeCert(again))
		want(d, krlNow, state.KRL{Changes: 4})

		of := func(profile string, serial uint64) func(context.Context, state.Querier) (state.RevokedCert, error) {
			return func(ctx context.Context, q state.Querier) (state.RevokedCert, error) {
				return state.RevokedCertOf(ctx, q, profile, serial)
			}
		}
		want(d, of("host", math.MaxUint64), host)
		want(d, of("host", 9), offline)
		wantErr(d, of("access", 9), state.ErrNotFound)
		wantErr(d, of("front", math.MaxUint64), state.ErrNotFound)

		names := func(profile string, serial uint64) func(context.Context, state.Querier) ([]string, error) {
			return func(ctx context.Context, q state.Querier) ([]string, error) {
				return state.NamesOfCert(ctx, q, profile, serial)
			}
		}
		want(d, names("host", math.MaxUint64), []string{"web-1", "web-1.example"})
		want(d, names("host", 9), nil)

		revokedOf := func(name string, now time.Time) func(context.Context, state.Querier) ([]uint64, error) {
			return func(ctx context.Context, q state.Querier) ([]uint64, error) {
				return state.RevokedOfName(ctx, q, "host", name, now)
			}
		}
		want(d, revokedOf("web-1", noon), []uint64{math.MaxUint64, 9}) // as text
		want(d, revokedOf("db-1", noon), []uint64{10, 9})
		want(d, revokedOf("unknown", noon), []uint64{9})
		want(d, revokedOf("web-1", noon.Add(time.Hour)), []uint64{9})
		want(d, revokedOf("web-1", noon.Add(2*time.Hour)), nil)
		want(d, func(ctx context.Context, q state.Querier) ([]state.Cert, error) {
			return state.CertsOfName(ctx, q, "host", "web-1", noon)
		}, []state.Cert{{Profile: "host", Serial: 11, ValidBefore: noon.Add(time.Hour)}, {Profile: "host", Serial: math.MaxUint64, ValidBefore: noon.Add(time.Hour)}})

		drop := func(before time.Time) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.DropExpired(ctx, q, before) })
		}
		drop(noon)
		want(d, krlNow, state.KRL{Changes: 4}) // nothing was forgotten, so nothing has changed
		drop(noon.Add(time.Hour))
		want(d, krlNow, state.KRL{Changes: 5})
		wantErr(d, of("front", 9), state.ErrNotFound)
		want(d, names("front", 9), nil)
		drop(noon.Add(time.Hour + time.Millisecond))
		wantErr(d, of("host", math.MaxUint64), state.ErrNotFound)
		serials, err := read(d, func(ctx context.Context, q state.Querier) ([]uint64, error) {
			return state.RevokedSerials(ctx, q, "host")
		})
		if diff := cmp.Diff(2, len(serials)); err != nil || diff != "" {
			t.Errorf("%v, %v", serials, err)
		}
	})
}

// TestKRLVersion: it rises with every list that is made, whatever the clock does, and a restored database leaps over
// all that it has forgotten.
func TestKRLVersion(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		next := func(digest string, now time.Time) (k state.KRL) {
			t.Helper()
			d.write(func(ctx context.Context, q state.Querier) (err error) {
				k, err = state.NextKRL(ctx, q, digest, now)
				return err
			})
			return k
		}
		want(d, krlNow, state.KRL{})
		first := next("a", noon)
		if diff := cmp.Diff(state.KRL{Version: noon.UnixMilli(), Digest: "a", Generated: noon}, first); diff != "" {
			t.Error(diff)
		}
		want(d, krlNow, first)
		d.write(state.TouchKRL)
		if k := next("b", noon); k.Version != first.Version+1 || k.Changes != 1 {
			t.Errorf("in the same millisecond: %+v", k)
		}
		if k := next("c", noon.Add(-time.Hour)); k.Version != first.Version+2 {
			t.Errorf("with a clock that went back: %+v", k)
		}
		if k := next("d", noon.Add(time.Hour)); k.Version != noon.Add(time.Hour).UnixMilli() {
			t.Errorf("later: %+v", k)
		}
		d.write(func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon) })
		if k, err := read(d, krlNow); err != nil || k.Changes != 2 {
			t.Errorf("a recovery is a change: %+v, %v", k, err)
		}
	})
}

// TestBlockedHosts: a block is lifted by whoever has read it, and none that came since.
func TestBlockedHosts(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		block := func(b state.HostBlock) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.BlockHost(ctx, q, b) })
		}
		of := func(ctx context.Context, q state.Querier) (state.HostBlock, error) {
			return state.HostBlockOf(ctx, q, "web-1")
		}
		lift := func(index int64) error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.UnblockHost(ctx, q, "web-1", index) })
		}
		wantErr(d, of, state.ErrNotFound)
		first := state.HostBlock{Host: "web-1", Index: 5, Issuer: issuer, Subject: "00u-sam", Reason: "owned", At: noon}
		block(first)
		want(d, of, first)
		second := state.HostBlock{Host: "web-1", Index: 9, Issuer: issuer, Subject: alice, Reason: "again", At: noon.Add(time.Hour)}
		block(second)
		if err := lift(5); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("the newer block was lifted: %v", err)
		}
		want(d, of, second)
		want(d, state.HostBlocks, map[string]state.HostBlock{"web-1": second})
		if err := lift(9); err != nil {
			t.Error(err)
		}
		wantErr(d, of, state.ErrNotFound)
	})
}

// TestSessionsOfCertificates finds what a revoked certificate ends.
func TestSessionsOfCertificates(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		for i, id := range []string{"ssh_1", "ssh_2", "ssh_3"} {
			s := state.SSHSession{ID: id, Bearer: state.Bearer{LoginID: "ses_1", Issuer: issuer, Subject: alice}, Host: "web-1", Login: "deploy", Started: noon, NotAfter: noon.Add(time.Hour)}
			d.write(func(ctx context.Context, q state.Querier) error {
				return errors.Join(state.AddSSH(ctx, q, s), state.AddSSHCerts(ctx, q, id, state.SSHCerts{Access: 7, Hop: uint64(10 + i)}))
			})
		}
		d.write(func(ctx context.Context, q state.Querier) error {
			return errors.Join(state.SetSSHState(ctx, q, "ssh_2", state.SSHLive), state.SetSSHState(ctx, q, "ssh_3", state.SSHEnded), state.SetSSHHost(ctx, q, "ssh_2", 99))
		})
		ids := func(all []state.SSHSession, err error) (out []string, _ error) {
			for _, s := range all {
				out = append(out, s.ID)
			}
			return out, err
		}
		for _, tt := range []struct {
			profile string
			serial  uint64
			want    []string
		}{{"access", 7, []string{"ssh_1", "ssh_2"}}, {"hop", 11, []string{"ssh_2"}}, {"hop", 12, nil}, {"host", 99, []string{"ssh_2"}}, {"host", 7, nil}, {"front", 7, nil}, {"nothing", 7, nil}} {
			want(d, func(ctx context.Context, q state.Querier) ([]string, error) {
				return ids(state.SSHByCert(ctx, q, tt.profile, tt.serial))
			}, tt.want)
		}
		want(d, func(ctx context.Context, q state.Querier) ([]string, error) {
			return ids(state.SSHByHost(ctx, q, "web-1"))
		}, []string{"ssh_1", "ssh_2"})
		want(d, func(ctx context.Context, q state.Querier) ([]string, error) {
			return ids(state.SSHByHost(ctx, q, "web-2"))
		}, nil)
	})
}

// TestRevocationsOfThings: a certificate and a host come out of the feed as they went in, among the others.
func TestRevocationsOfThings(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		all := []state.Revocation{
			{Index: 1, EventID: "a", Issuer: issuer, Subject: alice, Reason: "x", At: noon},
			{Index: 2, EventID: "b", Profile: "access", Serial: math.MaxUint64, At: noon},
			{Index: 3, EventID: "c", Host: "web-1", At: noon},
			{Index: 4, EventID: "d", SessionID: "ssh_1", At: noon},
		}
		for _, r := range all {
			d.write(func(ctx context.Context, q state.Querier) error { return state.AddRevocation(ctx, q, r) })
		}
		want(d, func(ctx context.Context, q state.Querier) ([]state.Revocation, error) {
			return state.RevocationsAfter(ctx, q, 0, 10)
		}, all)
	})
}
