package sshca

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestProfiles(t *testing.T) {
	window := func(c *ssh.Certificate, before time.Duration) *ssh.Certificate {
		c.ValidAfter, c.ValidBefore = uint64(noon.Add(-time.Minute).Unix()), uint64(noon.Add(before).Unix())
		return c
	}
	era := uint64(1) << 32
	access, hop, host := accessParams(t), hopParams(t), hostParams(t, Host)
	front := hostParams(t, Front)
	pinned := access
	pinned.SourceAddresses = []string{"198.51.100.0/24"}
	tests := map[string]struct {
		build func() (*ssh.Certificate, error)
		want  *ssh.Certificate
	}{
		"access": {func() (*ssh.Certificate, error) { return NewAccess(access) },
			window(&ssh.Certificate{Key: access.Key, Serial: era + 7, CertType: ssh.UserCert, KeyId: loginID + " " + person, ValidPrincipals: []string{loginID}}, 8*time.Minute)},
		"access, pinned": {func() (*ssh.Certificate, error) { return NewAccess(pinned) },
			window(&ssh.Certificate{Key: access.Key, Serial: era + 7, CertType: ssh.UserCert, KeyId: loginID + " " + person, ValidPrincipals: []string{loginID},
				Permissions: ssh.Permissions{CriticalOptions: map[string]string{"source-address": "198.51.100.0/24"}}}, 8*time.Minute)},
		"hop": {func() (*ssh.Certificate, error) { return NewHop(hop) },
			window(&ssh.Certificate{Key: hop.Key, Serial: era + 8, CertType: ssh.UserCert, KeyId: sessionID + " " + person, ValidPrincipals: []string{"deploy@db1.prod.example"},
				Permissions: ssh.Permissions{CriticalOptions: map[string]string{"source-address": "10.0.0.5,2001:db8::/64"}, Extensions: map[string]string{"permit-pty": ""}}}, 2*time.Minute)},
		"front": {func() (*ssh.Certificate, error) { return NewFront(front) },
			window(&ssh.Certificate{Key: front.Key, Serial: era + 9, CertType: ssh.HostCert, KeyId: "mch_1 db1", ValidPrincipals: []string{"db1.prod.example", "db1"}}, 59*time.Minute)},
		"host": {func() (*ssh.Certificate, error) { return NewHost(host) },
			window(&ssh.Certificate{Key: host.Key, Serial: era + 9, CertType: ssh.HostCert, KeyId: "mch_1 db1", ValidPrincipals: []string{"db1.prod.example", "db1"}}, time.Hour)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.build()
			if err != nil {
				t.Fatal(err)
			}
			if !sameKey(got.Key, tt.want.Key) {
				t.Error("another key")
			}
			got.Key, tt.want.Key = nil, nil
			if d := cmp.Diff(*tt.want, *got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	access := func(f func(*AccessParams)) func() error {
		return func() error { p := accessParams(t); f(&p); _, err := NewAccess(p); return err }
	}
	hop := func(f func(*HopParams)) func() error {
		return func() error { p := hopParams(t); f(&p); _, err := NewHop(p); return err }
	}
	front := func(f func(*HostParams)) func() error {
		return func() error { p := hostParams(t, Front); f(&p); _, err := NewFront(p); return err }
	}
	tests := map[string]struct {
		build func() error
		want  error
	}{
		"access: no key":                      {access(func(p *AccessParams) { p.Key = nil }), ErrKey},
		"access: RSA 2048":                    {access(func(p *AccessParams) { p.Key = newRSA(t, 2048).PublicKey() }), ErrKey},
		"access: serial 0":                    {access(func(p *AccessParams) { p.Serial = 0 }), ErrSerial},
		"access: no key ID":                   {access(func(p *AccessParams) { p.KeyID = KeyID{} }), ErrKeyID},
		"access: SSH session's ID":            {access(func(p *AccessParams) { p.KeyID.Session = sessionID }), ErrKeyID},
		"access: person with a line break":    {access(func(p *AccessParams) { p.KeyID.Person = "jane\nroot" }), ErrKeyID},
		"access: over an hour":                {access(func(p *AccessParams) { p.ValidBefore = p.ValidAfter.Add(time.Hour + time.Second) }), ErrLifetime},
		"access: ends before it begins":       {access(func(p *AccessParams) { p.ValidBefore = p.ValidAfter }), ErrLifetime},
		"access: no beginning":                {access(func(p *AccessParams) { p.ValidAfter = time.Time{} }), ErrLifetime},
		"access: no end":                      {access(func(p *AccessParams) { p.ValidBefore = time.Time{} }), ErrLifetime},
		"access: beginning in 1970":           {access(func(p *AccessParams) { p.ValidAfter = time.Unix(0, 0) }), ErrLifetime},
		"access: host bits in a CIDR":         {access(func(p *AccessParams) { p.SourceAddresses = []string{"10.0.0.1/8"} }), ErrOption},
		"access: from everywhere":             {access(func(p *AccessParams) { p.SourceAddresses = []string{"0.0.0.0/0"} }), ErrOption},
		"access: a name as address":           {access(func(p *AccessParams) { p.SourceAddresses = []string{"office"} }), ErrOption},
		"access: mapped address":              {access(func(p *AccessParams) { p.SourceAddresses = []string{"::ffff:10.0.0.1"} }), ErrOption},
		"access: address with zone":           {access(func(p *AccessParams) { p.SourceAddresses = []string{"fe80::1%eth0"} }), ErrOption},
		"access: empty address":               {access(func(p *AccessParams) { p.SourceAddresses = []string{""} }), ErrOption},
		"access: negated address":             {access(func(p *AccessParams) { p.SourceAddresses = []string{"!10.0.0.1"} }), ErrOption},
		"access: verified, no FIDO2 key":      {access(func(p *AccessParams) { p.Verified = true }), ErrOption},
		"hop: no source address":              {hop(func(p *HopParams) { p.SourceAddresses = nil }), ErrOption},
		"hop: from everywhere":                {hop(func(p *HopParams) { p.SourceAddresses = []string{"10.0.0.5", "::/0"} }), ErrOption},
		"hop: no login":                       {hop(func(p *HopParams) { p.Login = "" }), ErrPrincipal},
		"hop: no host":                        {hop(func(p *HopParams) { p.HostID = "" }), ErrPrincipal},
		"hop: comma":                          {hop(func(p *HopParams) { p.Login = "root,admin" }), ErrPrincipal},
		"hop: wildcard host":                  {hop(func(p *HopParams) { p.HostID = "*.prod" }), ErrPrincipal},
		"hop: login's ID":                     {hop(func(p *HopParams) { p.KeyID.Session = loginID }), ErrKeyID},
		"hop: over ten minutes":               {hop(func(p *HopParams) { p.ValidBefore = p.ValidAfter.Add(601 * time.Second) }), ErrLifetime},
		"hop: hardware key":                   {hop(func(p *HopParams) { p.Key = skKey(t) }), ErrKey},
		"front: over an hour":                 {front(func(p *HostParams) { p.ValidBefore = p.ValidAfter.Add(time.Hour + time.Second) }), ErrLifetime},
		"front: no names":                     {front(func(p *HostParams) { p.Names = nil }), ErrPrincipal},
		"front: wildcard":                     {front(func(p *HostParams) { p.Names = []string{"db1", "*"} }), ErrPrincipal},
		"front: comma":                        {front(func(p *HostParams) { p.Names = []string{"db1,db2"} }), ErrPrincipal},
		"front: empty name":                   {front(func(p *HostParams) { p.Names = []string{"db1", ""} }), ErrPrincipal},
		"front: upper case":                   {front(func(p *HostParams) { p.Names = []string{"DB1"} }), ErrPrincipal},
		"front: a name twice":                 {front(func(p *HostParams) { p.Names = []string{"db1", "db1"} }), ErrPrincipal},
		"front: 65 names":                     {front(func(p *HostParams) { p.Names = manyNames(65) }), ErrPrincipal},
		"front: empty key ID":                 {front(func(p *HostParams) { p.KeyID = "" }), ErrKeyID},
		"front: line break in the key ID":     {front(func(p *HostParams) { p.KeyID = "a\nb" }), ErrKeyID},
		"front: blank at the key ID's end":    {front(func(p *HostParams) { p.KeyID = "a " }), ErrKeyID},
		"front: escape code in the key ID":    {front(func(p *HostParams) { p.KeyID = "a\x1b[2J" }), ErrKeyID},
		"front: certificate in a key's place": {front(func(p *HostParams) { p.Key = issue(t, NewAccess, accessParams(t), Access, newEd25519(t)) }), ErrKey},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := tt.build(); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func manyNames(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("host%d", i))
	}
	return names
}

func TestWindowIsSignable(t *testing.T) {
	for p, longest := range map[Profile]time.Duration{Access: time.Hour, Hop: 10 * time.Minute, Front: time.Hour, Host: 90 * 24 * time.Hour} {
		for _, asked := range []time.Duration{time.Second, longest - Backdate, longest, 1000 * time.Hour * 24} {
			after, before := p.Window(noon, asked)
			if got, want := before.Sub(noon), min(asked, longest-Backdate); got != want || noon.Sub(after) != Backdate {
				t.Errorf("%s, %s: from %s to %s", p, asked, after, before)
			}
		}
	}
	if after, before := Profile(0).Window(noon, time.Hour); after.Before(before) {
		t.Error("a profile that does not exist has a window")
	}
}

// rawSigner is an RSA signer of the kind that knows no other algorithm than its default.
type rawSigner struct{ ssh.Signer }

func TestSignRefuses(t *testing.T) {
	good := newEd25519(t)
	nested, err := ssh.NewCertSigner(forge(t, &ssh.Certificate{Key: good.PublicKey(), CertType: ssh.UserCert}, newEd25519(t)), good)
	if err != nil {
		t.Fatal(err)
	}
	onlySHA256, err := ssh.NewSignerWithAlgorithms(newRSA(t, 3072).(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA256})
	if err != nil {
		t.Fatal(err)
	}
	self := func(c *ssh.Certificate) { c.Key = good.PublicKey() }
	tests := map[string]struct {
		profile Profile
		mutate  func(*ssh.Certificate)
		ca      ssh.Signer
		want    error
	}{
		"no CA":                  {Access, nil, nil, ErrKey},
		"nested CA":              {Access, nil, nested, ErrNestedCA},
		"RSA 2048 CA":            {Access, nil, newRSA(t, 2048), ErrKey},
		"RSA CA for SHA-1 alone": {Access, nil, rawSigner{newRSA(t, 3072)}, ErrAlgorithm},
		"RSA CA for SHA-256":     {Access, nil, onlySHA256, ErrAlgorithm},
		"its own key":            {Access, self, good, ErrKey},
		"no profile":             {0, nil, good, ErrProfile},
		"access as hop":          {Hop, nil, good, ErrKeyID},
		"access as front":        {Front, nil, good, ErrType},
		"access as host":         {Host, nil, good, ErrType},
		"unknown type":           {Access, func(c *ssh.Certificate) { c.CertType = 3 }, good, ErrType},
		"forever":                {Access, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, good, ErrLifetime},
		"beyond int64":           {Access, func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 1<<63, 1<<63+60 }, good, ErrLifetime},
		"no principals":          {Access, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, good, ErrPrincipal},
		"two principals":         {Access, func(c *ssh.Certificate) { c.ValidPrincipals = []string{loginID, "root"} }, good, ErrPrincipal},
		"an account":             {Access, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root"} }, good, ErrPrincipal},
		"somebody else's login":  {Access, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"ses_aaaaaaaaaaaaaaaaaaaa"} }, good, ErrPrincipal},
		"force-command":          {Access, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "id"} }, good, ErrOption},
		"an extension":           {Access, func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": ""} }, good, ErrExtension},
		"reserved field":         {Access, func(c *ssh.Certificate) { c.Reserved = []byte{1} }, good, ErrMalformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := NewAccess(accessParams(t))
			if err != nil {
				t.Fatal(err)
			}
			if tt.mutate != nil {
				tt.mutate(c)
			}
			if err := Sign(c, tt.profile, tt.ca); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if c.Signature != nil {
				t.Error("it is signed all the same")
			}
		})
	}
}

func TestHopExtensions(t *testing.T) {
	for _, name := range []string{"permit-user-rc", "no-touch-required", "login@corp.example"} {
		c, err := NewHop(hopParams(t))
		if err != nil {
			t.Fatal(err)
		}
		c.Extensions[name] = ""
		if err := Sign(c, Hop, newEd25519(t)); !errors.Is(err, ErrExtension) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	c, err := NewHop(hopParams(t))
	if err != nil {
		t.Fatal(err)
	}
	c.CriticalOptions = nil
	if err := Sign(c, Hop, newEd25519(t)); !errors.Is(err, ErrOption) {
		t.Errorf("without source-address: got %v", err)
	}
	c, err = NewHop(hopParams(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Extensions["permit-pty"] = "yes"
	if err := Lint(c, Hop); !errors.Is(err, ErrExtension) {
		t.Errorf("a flag with a value: got %v", err)
	}
}
