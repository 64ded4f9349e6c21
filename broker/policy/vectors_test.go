package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// vectors is testdata/vectors.json: decisions by which another implementation can check itself.
type vectors struct {
	Policies string   `json:"policies"` // folder beside the file
	Digest   string   `json:"digest"`
	Vectors  []vector `json:"vectors"`
}

type vector struct {
	Name    string `json:"name"`
	Request struct {
		Principal struct {
			Kind   string   `json:"kind"`
			Iss    string   `json:"iss"`
			Sub    string   `json:"sub"`
			Email  string   `json:"email"`
			Groups []string `json:"groups"`
		} `json:"principal"`
		Action   string `json:"action"`
		Resource struct {
			Type        string            `json:"type"`
			ID          string            `json:"id"`
			Labels      map[string]string `json:"labels"`
			Account     string            `json:"account"`
			Owner       string            `json:"owner"`
			OwnerIssuer string            `json:"owner_issuer"`
		} `json:"resource"`
		Context struct {
			MFA     bool      `json:"mfa"`
			AuthAge string    `json:"auth_age"`
			Method  string    `json:"method"`
			Reason  string    `json:"reason"`
			Ticket  string    `json:"ticket"`
			Source  string    `json:"source"`
			Login   string    `json:"login"`
			Now     time.Time `json:"now"`

			ReadOnly bool `json:"read_only"`
			Narrowed bool `json:"narrowed"`
		} `json:"context"`
	} `json:"request"`
	Decision answer `json:"decision"`
}

type answer struct {
	Allow      bool     `json:"allow"`
	Cause      string   `json:"cause"`
	PolicyIDs  []string `json:"policy_ids"`
	Missing    []string `json:"missing"`
	Reason     string   `json:"reason"`
	MaxSeconds int      `json:"max_seconds"`
	NeedReason bool     `json:"need_reason"`
	NeedTicket bool     `json:"need_ticket"`
	MaxAuthAge int      `json:"max_auth_age_seconds"`
}

func (v vector) request(t *testing.T) Request {
	t.Helper()
	p, res, c := v.Request.Principal, v.Request.Resource, v.Request.Context
	age, err := time.ParseDuration(c.AuthAge)
	if err != nil {
		t.Fatal(err)
	}
	return Request{
		Principal: Principal{Issuer: p.Iss, Subject: p.Sub, Email: p.Email, Groups: p.Groups, Kind: p.Kind},
		Action:    v.Request.Action,
		Resource: Resource{Type: res.Type, ID: res.ID, Labels: res.Labels, Account: res.Account,
			Owner: res.Owner, OwnerIssuer: res.OwnerIssuer},
		Context: Context{MFA: c.MFA, AuthAge: age, Method: c.Method, Reason: c.Reason, Ticket: c.Ticket,
			Source: c.Source, Login: c.Login, Now: c.Now, ReadOnly: c.ReadOnly, Narrowed: c.Narrowed},
	}
}

func answerOf(d Decision) answer {
	return answer{Allow: d.Allow, Cause: string(d.Cause), PolicyIDs: d.PolicyIDs, Missing: append([]string{}, d.Missing...),
		Reason: d.Reason, MaxSeconds: int(d.Obligations.MaxDuration / time.Second), NeedReason: d.Obligations.NeedReason,
		NeedTicket: d.Obligations.NeedTicket, MaxAuthAge: int(d.Obligations.MaxAuthAge / time.Second)}
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if len(v.Vectors) < 20 {
		t.Fatalf("only %d vectors", len(v.Vectors))
	}
	return v
}

func TestVectors(t *testing.T) {
	v := readVectors(t)
	s, err := Load(os.DirFS("testdata/" + v.Policies))
	if err != nil {
		t.Fatal(err)
	}
	if s.Digest() != v.Digest {
		t.Errorf("digest %s, published is %s: if schema or policies were meant to change, publish the new one", s.Digest(), v.Digest)
	}
	for _, one := range v.Vectors {
		t.Run(one.Name, func(t *testing.T) {
			d := s.Decide(one.request(t))
			if diff := cmp.Diff(one.Decision, answerOf(d)); diff != "" {
				t.Errorf("decision (-published +got):\n%s", diff)
			}
			if d.Digest != v.Digest {
				t.Errorf("the decision names digest %q", d.Digest)
			}
		})
	}
}
