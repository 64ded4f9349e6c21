package policy

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const (
	issuer = "https://idp.example"
	other  = "https://other.example"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// folder makes a file system of name, text pairs.
func folder(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

func load(t testing.TB, policies ...string) *Set {
	t.Helper()
	s, err := Load(folder("p.cedar", strings.Join(policies, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask is a sound request of alice for a role; f changes it.
func ask(f ...func(*Request)) Request {
	r := Request{
		Principal: Principal{Issuer: issuer, Subject: "alice", Email: "alice@corp.example", Kind: KindUser},
		Action:    ActionAssume,
		Resource:  Resource{Type: TypeRole, ID: "prod", Account: "111122223333"},
		Context:   Context{MFA: true, AuthAge: time.Minute, Method: "browser", Now: noon},
	}
	for _, change := range f {
		change(&r)
	}
	return r
}

func in(groups ...string) func(*Request) {
	return func(r *Request) { r.Groups = append(r.Groups, groups...) }
}

func on(action, resourceType, id string) func(*Request) {
	return func(r *Request) { r.Action, r.Resource = action, Resource{Type: resourceType, ID: id} }
}

func method(m string) func(*Request) { return func(r *Request) { r.Method = m } }

func noMFA(r *Request) { r.MFA = false }

func machine(r *Request) { r.Principal = Principal{Subject: "mch_1", Kind: KindMachine} }

const everything = `@id("all") permit (principal, action, resource);`
