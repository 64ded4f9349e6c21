package agent

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"golang.org/x/crypto/ssh"

	"sega/sshca/sshtest"
)

// lenString is SSH's string: its length in four bytes, then itself.
func lenString(s string) string {
	return string([]byte{byte(len(s) >> 24), byte(len(s) >> 16), byte(len(s) >> 8), byte(len(s))}) + s
}

// authBlob is what a client signs to log in (RFC 4252 §7, PROTOCOL.certkeys of OpenSSH).
func authBlob(session, user, service, method string, rest string) []byte {
	return []byte(lenString(session) + "\x32" + lenString(user) + lenString(service) + lenString(method) + rest)
}

const hostBound = "publickey-hostbound-v00@openssh.com"

func testKey(t testing.TB) (ed25519.PrivateKey, ssh.PublicKey) {
	t.Helper()
	private := sshtest.Key(t)
	return private, sshtest.Public(t, private)
}

func TestParseUserAuth(t *testing.T) {
	session, key := string(bytes.Repeat([]byte{7}, 32)), lenString("ssh-ed25519")+lenString("key")
	good := authBlob(session, "deploy+web-1", "ssh-connection", "publickey", "\x01"+key)
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"publickey":          {good, true},
		"host-bound":         {authBlob(session, "u", "ssh-connection", hostBound, "\x01"+key+lenString("host key")), true},
		"nothing":            {nil, false},
		"an SSHSIG":          {[]byte("SSHSIG" + lenString("file") + lenString("") + lenString("sha512") + lenString("hash")), false},
		"a git commit":       {[]byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor x\n"), false},
		"a certificate":      {[]byte(lenString("ssh-ed25519-cert-v01@openssh.com") + lenString("nonce") + lenString("key")), false},
		"a key exchange":     {bytes.Repeat([]byte{0xab}, 32), false},
		"zeros":              {make([]byte, 200), false},
		"no session":         {authBlob("", "u", "ssh-connection", "publickey", "\x01"+key), false},
		"another service":    {authBlob(session, "u", "ssh-userauth", "publickey", "\x01"+key), false},
		"a longer service":   {authBlob(session, "u", "ssh-connection2", "publickey", "\x01"+key), false},
		"hostbased":          {authBlob(session, "u", "ssh-connection", "hostbased", "\x01"+key), false},
		"password":           {authBlob(session, "u", "ssh-connection", "password", "\x01"+key), false},
		"a question alone":   {authBlob(session, "u", "ssh-connection", "publickey", "\x00"+key), false},
		"ends at the method": {authBlob(session, "u", "ssh-connection", "publickey", ""), false},
		"another message":    {bytes.Replace(good, []byte("\x32"+lenString("deploy+web-1")), []byte("\x33"+lenString("deploy+web-1")), 1), false},
		"a length too long":  {append([]byte{0xff, 0xff, 0xff, 0xff}, good...), false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := parseUserAuth(c.data); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
	for i := range good {
		if _, ok := parseUserAuth(good[:i]); ok {
			t.Errorf("the first %d bytes pass", i)
		}
	}
}

// FuzzParseUserAuth: what passes is a login at ssh-connection under one of two methods, whatever else
// is in it.
func FuzzParseUserAuth(f *testing.F) {
	f.Add(authBlob("session", "u", "ssh-connection", "publickey", "\x01"))
	f.Add(authBlob("s", "", "ssh-connection", hostBound, "\x01x"))
	f.Add([]byte("SSHSIG\x00\x00\x00\x04file"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, ok := parseUserAuth(data)
		if !ok {
			return
		}
		var v struct {
			Session               []byte
			Type                  byte
			User, Service, Method string
			Signed                bool
			Rest                  []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(data, &v); err != nil {
			t.Fatalf("%v: %q", err, data)
		}
		if len(v.Session) == 0 || v.Type != 50 || v.Service != "ssh-connection" || v.Method != "publickey" && v.Method != hostBound || !v.Signed {
			t.Errorf("passes: %+v", v)
		}
		if !bytes.Equal(u.session, v.Session) || (u.hostKey != nil) != (v.Method == hostBound) {
			t.Errorf("taken apart as %q, %q: %+v", u.session, u.hostKey, v)
		}
	})
}
