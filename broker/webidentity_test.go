package broker

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/state"
)

func get(path string) *http.Request { return httptest.NewRequest("GET", path, nil) }

// TestWebSubject: trust policies name these, so they never change, and no two people share one.
func TestWebSubject(t *testing.T) {
	if got := WebSubject(issuer, "alice"); got != subjectOfAlice {
		t.Errorf("alice is %s, want %s", got, subjectOfAlice)
	}
	form, seen := regexp.MustCompile(`\Ausr_[a-z2-7]{26}\z`), map[string][2]string{}
	for _, id := range [][2]string{{"https://a", "b"}, {"https://a", "B"}, {"https://ab", ""}, {"https://", "ab"}, {"https://a\n", "b"}, {"https://a", "\nb"}, {"https://a", "*"}} {
		got := WebSubject(id[0], id[1])
		if other, taken := seen[got]; taken || !form.MatchString(got) {
			t.Errorf("%q has the subject %s, as %q", id, got, other)
		}
		seen[got] = id
	}
}

const subjectOfAlice = "usr_hywetffin62h6sa3puxnizljhg"

// withWeb adds a role in the mode web-identity that policy permits.
func withWeb(t *testing.T) func(*Config) {
	return func(c *Config) {
		c.WebIdentity = newIssuer(t, 1)
		for i := range c.Roles {
			if c.Roles[i].Name == "dev-admin" {
				c.Roles[i].Mode, c.Roles[i].MaxDuration = api.ModeWebIdentity, 12*time.Hour
			}
		}
	}
}

// TestWebIdentityMode: who the token is for and whom it names comes from role and session alone, and the log
// says by which mode.
func TestWebIdentityMode(t *testing.T) {
	w := newWorld(t, withWeb(t))
	alice := w.login()
	var asked []awssts.Request
	w.minter.do = func(r awssts.Request) (awssts.Result, error) {
		asked = append(asked, r)
		return minted(r)
	}
	if rec := alice.assume("dev-admin"); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	want := &awssts.WebIdentity{Issuer: issuerURL, Audience: "sega:dev-admin", Subject: subjectOfAlice}
	if len(asked) != 1 {
		t.Fatalf("AWS was asked %d times", len(asked))
	}
	if diff := cmp.Diff(want, asked[0].WebIdentity); diff != "" || asked[0].RoleMax != 12*time.Hour || asked[0].PolicyMax != 4*time.Hour {
		t.Errorf("asked for %v and %v: -want +got\n%s", asked[0].RoleMax, asked[0].PolicyMax, diff)
	}
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume success"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, e := range w.events() {
		if !strings.Contains(string(e.Details), `"mode":"web-identity"`) {
			t.Errorf("%s %s: details %s", e.Kind, e.Outcome, e.Details)
		}
	}
	modes := map[string]string{}
	var roles api.Roles
	if err := json.Unmarshal(alice.do("GET", api.RouteRoles, nil).Body.Bytes(), &roles); err != nil {
		t.Fatal(err)
	}
	for _, r := range roles.Roles {
		modes[r.Name] = r.Mode
	}
	if modes["dev-admin"] != api.ModeWebIdentity || modes["other"] != api.ModeAssumeRole {
		t.Errorf("modes %v", modes)
	}
}

// TestChainBeginsByToken: the first role's mode says how a chain begins; what follows is AssumeRole.
func TestChainBeginsByToken(t *testing.T) {
	w, calls := chained(t)
	w.config.WebIdentity = newIssuer(t, 1)
	for i := range w.config.Roles {
		if r := &w.config.Roles[i]; r.Name == "first" || r.Name == "second" {
			r.Mode, r.ExternalID = api.ModeWebIdentity, ""
		}
	}
	w.restart()
	if rec := w.login().do("POST", api.RouteCredentials, api.CredentialsRequest{Role: "first", Chain: []string{"second"}}); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	if len(*calls) != 2 || (*calls)[0].WebIdentity == nil || (*calls)[0].WebIdentity.Audience != "sega:first" || (*calls)[1].WebIdentity != nil || (*calls)[1].Before == "" {
		t.Errorf("calls %+v", *calls)
	}
	for _, e := range w.events() {
		if !strings.Contains(string(e.Details), `"mode":"web-identity"`) {
			t.Errorf("%s %s: details %s", e.Kind, e.Outcome, e.Details)
		}
	}
}

// TestWebIdentityRevokedMeanwhile (R4): a revocation during the call wins in this mode too.
func TestWebIdentityRevokedMeanwhile(t *testing.T) {
	w := newWorld(t, withWeb(t))
	alice := w.login()
	w.minter.do = func(r awssts.Request) (awssts.Result, error) {
		w.write(func(ctx context.Context, tx store.Tx) error {
			return state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x")
		})
		return minted(r)
	}
	rec := alice.assume("dev-admin")
	if p := problemOf(t, rec); p.Kind != api.KindRevoked || strings.Contains(rec.Body.String(), "canary") {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume revoked"}, w.trail()); diff != "" || w.grants() != 0 {
		t.Errorf("%d grants: -want +got\n%s", w.grants(), diff)
	}
}

func TestModesAreChecked(t *testing.T) {
	web := func(name, audience string) Role {
		return Role{Name: name, ARN: "arn:aws:iam::111122223333:role/x", Mode: api.ModeWebIdentity, Audience: audience}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // "": it is taken
	}{
		"by default the broker assumes":      {func(c *Config) { c.Roles = []Role{{Name: "a"}} }, ""},
		"both modes":                         {func(c *Config) { c.Roles = []Role{{Name: "a", Mode: api.ModeAssumeRole}, web("b", "")} }, ""},
		"audiences of their own":             {func(c *Config) { c.Roles = []Role{web("a", ""), web("b", "sts.amazonaws.com")} }, ""},
		"255 characters":                     {func(c *Config) { c.Roles = []Role{web("a", strings.Repeat("a", 255))} }, ""},
		"a mode that is none":                {func(c *Config) { c.Roles = []Role{{Name: "a", Mode: "saml"}} }, `role "a": the mode is assume-role or web-identity`},
		"no issuer":                          {func(c *Config) { c.Roles, c.WebIdentity = []Role{web("a", "")}, nil }, "the section issuer is missing"},
		"the identity provider's URL":        {func(c *Config) { c.Issuer = issuerURL }, "have one URL"},
		"an audience for AssumeRole":         {func(c *Config) { c.Roles = []Role{{Name: "a", Audience: "x"}} }, "for the mode web-identity"},
		"an external ID":                     {func(c *Config) { c.Roles = []Role{web("a", "")}; c.Roles[0].ExternalID = "xy" }, "external ID"},
		"one audience for two":               {func(c *Config) { c.Roles = []Role{web("a", "x"), web("b", "x")} }, `roles "a" and "b" have one audience`},
		"an audience that another has":       {func(c *Config) { c.Roles = []Role{web("a", ""), web("b", "sega:a")} }, "one audience"},
		"a blank in the audience":            {func(c *Config) { c.Roles = []Role{web("a", "x y")} }, "audience takes"},
		"a star in the audience":             {func(c *Config) { c.Roles = []Role{web("a", "x*")} }, "audience takes"},
		"a name that is no audience":         {func(c *Config) { c.Roles = []Role{web("ä", "")} }, "audience takes"},
		"an audience of 256":                 {func(c *Config) { c.Roles = []Role{web("a", strings.Repeat("a", 256))} }, "audience takes"},
		"an audience with a newline after":   {func(c *Config) { c.Roles = []Role{web("a", "x\n")} }, "audience takes"},
		"issuer without a role that uses it": {func(c *Config) { c.Roles = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Issuer: issuer, WebIdentity: newIssuer(t, 1)}
			c.change(&config)
			err := config.validateModes()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
