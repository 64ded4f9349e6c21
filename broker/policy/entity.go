package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

// Cedar's names of what schema.cedarschema declares.
const (
	typeGroup   = "Group"
	typeUser    = "User"
	typeMachine = "Machine"
	typeAction  = "Action"
)

// clockSkew is how far in the future an IdP's auth_time may lie.
const clockSkew = time.Minute

// UserID returns the entity ID of a user, "issuer|subject". It is unambiguous because an issuer
// with a bar in it is refused; a subject may hold bars.
func UserID(issuer, subject string) string { return issuer + "|" + subject }

// query is a request in Cedar's terms. It holds every entity that an evaluation may ask for.
type query struct {
	req       cedar.Request
	principal cedar.Entity
	resource  cedar.Entity
}

// Get implements cedar.EntityGetter. A user who acts on himself is one entity: the principal, of
// whom more is known.
func (q *query) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case q.principal.UID:
		return q.principal, true
	case q.resource.UID:
		return q.resource, true
	}
	return cedar.Entity{}, false
}

// newQuery translates r, or says what is wrong with it.
func newQuery(schema *resolved.Schema, r Request) (*query, error) {
	principal, err := principalEntity(r.Principal)
	if err != nil {
		return nil, err
	}
	resource, err := resourceEntity(r.Resource)
	if err != nil {
		return nil, err
	}
	action := cedar.NewEntityUID(typeAction, cedar.String(r.Action))
	if err := applies(schema, principal.UID.Type, action, resource.UID.Type); err != nil {
		return nil, err
	}
	context, err := contextRecord(r)
	if err != nil {
		return nil, err
	}
	return &query{
		req:       cedar.Request{Principal: principal.UID, Action: action, Resource: resource.UID, Context: context},
		principal: principal, resource: resource,
	}, nil
}

// applies checks the action against the schema, for Cedar itself would evaluate any combination.
func applies(schema *resolved.Schema, principal cedar.EntityType, action cedar.EntityUID, resource cedar.EntityType) error {
	a, ok := schema.Actions[action]
	switch {
	case !ok || a.AppliesTo == nil:
		return fmt.Errorf("there is no action %q", action.ID)
	case !slices.Contains(a.AppliesTo.Principals, principal):
		return fmt.Errorf("a %s cannot %s", strings.ToLower(string(principal)), action.ID)
	case !slices.Contains(a.AppliesTo.Resources, resource):
		return fmt.Errorf("%s does not apply to a %s", action.ID, resource)
	}
	return nil
}

func principalEntity(p Principal) (cedar.Entity, error) {
	e, err := identity(p)
	if err != nil {
		return e, err
	}
	parents := make([]cedar.EntityUID, len(p.Groups))
	for i, g := range p.Groups {
		parents[i] = cedar.NewEntityUID(typeGroup, cedar.String(g))
	}
	e.Parents = cedar.NewEntityUIDSet(parents...)
	return e, nil
}

func identity(p Principal) (cedar.Entity, error) {
	switch p.Kind {
	case KindUser:
		return userEntity(p.Issuer, p.Subject, p.Email)
	case KindMachine:
		if p.Subject == "" {
			return cedar.Entity{}, errors.New("the machine has no ID")
		}
		id := cedar.String(p.Subject)
		return cedar.Entity{UID: cedar.NewEntityUID(typeMachine, id), Attributes: cedar.NewRecord(cedar.RecordMap{"id": id})}, nil
	}
	return cedar.Entity{}, fmt.Errorf("there is no kind of principal %q", p.Kind)
}

func userEntity(issuer, subject, email string) (cedar.Entity, error) {
	if issuer == "" || subject == "" || strings.Contains(issuer, "|") {
		return cedar.Entity{}, errors.New("the user has no issuer and subject that make an identity")
	}
	id := cedar.String(UserID(issuer, subject))
	attrs := cedar.RecordMap{"id": id, "issuer": cedar.String(issuer), "subject": cedar.String(subject)}
	if email != "" {
		attrs["email"] = cedar.String(email)
	}
	return cedar.Entity{UID: cedar.NewEntityUID(typeUser, id), Attributes: cedar.NewRecord(attrs)}, nil
}

func resourceEntity(r Resource) (cedar.Entity, error) {
	if r.ID == "" {
		return cedar.Entity{}, errors.New("the resource has no ID")
	}
	e := cedar.Entity{UID: cedar.NewEntityUID(cedar.EntityType(r.Type), cedar.String(r.ID))}
	var err error
	switch r.Type {
	case TypeUser:
		issuer, subject, _ := strings.Cut(r.ID, "|")
		return userEntity(issuer, subject, "")
	case TypeRole:
		e.Attributes = cedar.NewRecord(cedar.RecordMap{"name": cedar.String(r.ID), "account": cedar.String(r.Account)})
		e.Tags = tags(r.Labels)
	case TypeHost:
		e.Attributes = cedar.NewRecord(cedar.RecordMap{"name": cedar.String(r.ID)})
		e.Tags = tags(r.Labels)
	case TypeSession, TypeRecording:
		e.Attributes, err = owner(r)
		e.Tags = tags(r.Labels)
	case TypeAuditLog:
		e.Attributes, err = owner(r)
	case TypeCertificate:
		e.Attributes, err = certificate(r)
	case TypeBroker:
	default:
		err = fmt.Errorf("there is no type of resource %q", r.Type)
	}
	return e, err
}

// owner refuses half an identity: a sub alone may be another person's at another issuer, and with
// the attribute left out a forbid that compares owners would silently not match.
func owner(r Resource) (cedar.Record, error) {
	if r.Owner == "" && r.OwnerIssuer == "" {
		return cedar.Record{}, nil
	}
	if r.Owner == "" || r.OwnerIssuer == "" || strings.Contains(r.OwnerIssuer, "|") {
		return cedar.Record{}, errors.New("the resource's owner has no issuer and subject that make an identity")
	}
	return cedar.NewRecord(cedar.RecordMap{"owner": cedar.String(UserID(r.OwnerIssuer, r.Owner))}), nil
}

// certificate refuses one without a profile: a policy for those of hosts would silently not match it.
func certificate(r Resource) (cedar.Record, error) {
	if r.Profile == "" {
		return cedar.Record{}, errors.New("the certificate has no profile")
	}
	attrs, err := owner(r)
	m := cedar.RecordMap{"profile": cedar.String(r.Profile)}
	if of, ok := attrs.Get("owner"); ok {
		m["owner"] = of
	}
	return cedar.NewRecord(m), err
}

func tags(labels map[string]string) cedar.Record {
	if len(labels) == 0 {
		return cedar.Record{}
	}
	m := make(cedar.RecordMap, len(labels))
	for k, v := range labels {
		m[cedar.String(k)] = cedar.String(v)
	}
	return cedar.NewRecord(m)
}

func contextRecord(r Request) (cedar.Record, error) {
	if r.Now.IsZero() {
		return cedar.Record{}, errors.New("the request has no time")
	}
	if r.AuthAge < -clockSkew {
		return cedar.Record{}, errors.New("the login's authentication lies in the future")
	}
	m := cedar.RecordMap{
		"mfa":     cedar.Boolean(r.MFA),
		"authAge": cedar.NewDuration(max(r.AuthAge, 0)),
		"method":  cedar.String(r.Method),
		"reason":  cedar.String(r.Reason),
		"ticket":  cedar.String(r.Ticket),
		"now":     cedar.NewDatetime(r.Now),
	}
	switch r.Action {
	case ActionAssume, ActionConsole:
		if r.ReadOnly && !r.Narrowed {
			return cedar.Record{}, errors.New("the session is read-only and has no session policy")
		}
		m["readOnly"], m["narrowed"] = cedar.Boolean(r.ReadOnly), cedar.Boolean(r.Narrowed)
	case ActionConnect, ActionForwardAgent, ActionForwardX11, ActionOmitContent:
		m["channel"], m["command"] = cedar.String(r.Channel), cedar.String(r.Command)
		if err := addLogin(m, r.Login); err != nil {
			return cedar.Record{}, err
		}
	case ActionForward, ActionOpaque:
		addForward(m, r.Context.Forward)
		if err := addLogin(m, r.Login); err != nil {
			return cedar.Record{}, err
		}
	}
	if err := addSource(m, r.Source); err != nil {
		return cedar.Record{}, err
	}
	return cedar.NewRecord(m), nil
}

func addLogin(m cedar.RecordMap, login string) error {
	if login == "" {
		return errors.New("the connection names no login")
	}
	m["login"] = cedar.String(login)
	return nil
}

func addForward(m cedar.RecordMap, f Forward) {
	m["direction"], m["host"], m["port"] = cedar.String(f.Direction), cedar.String(f.Host), cedar.Long(f.Port)
	m["socket"], m["loopback"] = cedar.String(f.Socket), cedar.Boolean(f.Loopback)
	if addr, err := netip.ParseAddr(f.Host); err == nil {
		addr = addr.Unmap().WithZone("")
		m["address"] = cedar.IPAddr(netip.PrefixFrom(addr, addr.BitLen()))
	}
}

// addSource reads an address with or without a port. An IPv4 address in IPv6 form counts as IPv4,
// or a policy on 10.0.0.0/8 would not see it.
func addSource(m cedar.RecordMap, source string) error {
	if source == "" {
		return nil
	}
	addr, err := netip.ParseAddr(source)
	if err != nil {
		ap, portErr := netip.ParseAddrPort(source)
		if portErr != nil {
			return errors.New("the source is not an IP address")
		}
		addr = ap.Addr()
	}
	addr = addr.Unmap().WithZone("")
	m["source"] = cedar.IPAddr(netip.PrefixFrom(addr, addr.BitLen()))
	return nil
}
