package awssts

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const adminARN = "arn:aws:iam::222222222222:role/prod/admin"

func request() Request {
	return Request{RoleARN: adminARN, Identity: Identity{Email: "ada@corp.example", Subject: "00u1"},
		LoginID: "ses_abcdefghijkmnpqrstuv", RequestID: "01890a5d-ac96-774b-bcce-b302099a8057",
		PolicyMax: time.Hour, RoleMax: time.Hour}
}

func TestPlanWhole(t *testing.T) {
	r := request()
	r.ExternalID, r.Reason, r.Ticket, r.Want = "ext-1", "canary reason", "OPS-17", 30*time.Minute
	got, err := plan(r, true)
	if err != nil {
		t.Fatal(err)
	}
	want := Call{RoleARN: adminARN, SessionName: "ada@corp.example", ExternalID: "ext-1", SourceIdentity: "ada@corp.example",
		Duration: 30 * time.Minute,
		Tags:     []Tag{{"sega_login", "ses_abcdefghijkmnpqrstuv"}, {"sega_request", "01890a5d-ac96-774b-bcce-b302099a8057"}, {"sega_ticket", "OPS-17"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if strings.Contains(fmt.Sprintf("%+v", got), "canary") {
		t.Error("the reason is among the parameters of the call")
	}
}

func TestPlanDuration(t *testing.T) {
	const m, h = time.Minute, time.Hour
	tests := []struct {
		name               string
		want, policy, role time.Duration
		chained            bool
		duration           time.Duration
		notices            []string // a part of each
		refused            bool
	}{
		{"as long as policy gives", 0, 4 * h, 12 * h, false, 4 * h, nil, false},
		{"exactly the policy's", 4 * h, 4 * h, 12 * h, false, 4 * h, nil, false},
		{"a second above the policy's", 4*h + time.Second, 4 * h, 12 * h, false, 4 * h, []string{"from 4h0m1s to 4h: policy"}, false},
		{"role below policy", 6 * h, 8 * h, 2 * h, false, 2 * h, []string{"from 6h to 2h: the role's"}, false},
		{"nothing asked for, nothing told", 0, 8 * h, 2 * h, true, h, nil, false},
		{"the tightest limit is told, in one line", 10 * h, 8 * h, 2 * h, true, h, []string{"from 10h to 1h: the broker itself runs as an assumed role, and AWS caps role chaining at one hour"}, false},
		{"chained, an hour exactly", h, 12 * h, 12 * h, true, h, nil, false},
		{"chained, an hour and a second", h + time.Second, 12 * h, 12 * h, true, h, []string{"role chaining"}, false},
		{"not chained, twelve hours", 12 * h, 12 * h, 12 * h, false, 12 * h, nil, false},
		{"above every role of AWS", 13 * h, 24 * h, 24 * h, false, 12 * h, []string{"AWS gives no session longer"}, false},
		{"900 seconds", 900 * time.Second, h, h, true, 15 * m, nil, false},
		{"899 seconds", 899 * time.Second, h, h, true, 15 * m, []string{"lengthened from 14m59s to 15m"}, false},
		{"a second", time.Second, h, h, false, 15 * m, []string{"lengthened"}, false},
		{"fractions are cut", 20*m + 300*time.Millisecond, h, h, false, 20 * m, nil, false},
		{"a limit with a fraction is cut, not rounded", h, 20*m + 900*time.Millisecond, h, false, 20 * m, []string{"policy"}, false},
		{"limits unsaid are an hour, not endless", 12 * h, 0, 0, false, h, []string{"policy"}, false},
		{"role unsaid is an hour", 12 * h, 12 * h, 0, false, h, []string{"the role's"}, false},
		{"policy below AWS's least", 0, 14 * m, h, false, 0, nil, true},
		{"policy a fraction below AWS's least", 0, 15*m - 1, h, false, 0, nil, true},
		{"role below AWS's least", h, h, 14 * m, false, 0, nil, true},
		{"negative wish", -h, h, h, false, 0, nil, true},
		{"negative policy", h, -h, h, false, 0, nil, true},
		{"negative role", h, h, -h, false, 0, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request()
			r.Want, r.PolicyMax, r.RoleMax = tt.want, tt.policy, tt.role
			c, err := plan(r, tt.chained)
			if (err != nil) != tt.refused || c.Duration != tt.duration {
				t.Fatalf("duration %v, %v; want %v, refused %v", c.Duration, err, tt.duration, tt.refused)
			}
			if len(c.Notices) != len(tt.notices) {
				t.Fatalf("notices %q; want %q", c.Notices, tt.notices)
			}
			for i, n := range c.Notices {
				if !strings.Contains(n, tt.notices[i]) || strings.Contains(n, "\n") {
					t.Errorf("notice %q; want one line with %q", n, tt.notices[i])
				}
			}
		})
	}
}

// FuzzClamp checks that no limit is ever exceeded, whatever is asked for.
func FuzzClamp(f *testing.F) {
	f.Add(int64(time.Hour), int64(time.Hour), int64(0), true)
	f.Add(int64(0), int64(12*time.Hour), int64(12*time.Hour), false)
	f.Add(int64(1), int64(15*time.Minute), int64(1<<62), false)
	f.Fuzz(func(t *testing.T, want, policy, role int64, chained bool) {
		r := Request{Want: time.Duration(want), PolicyMax: time.Duration(policy), RoleMax: time.Duration(role)}
		d, _, err := clamp(r, chained)
		if err != nil {
			return
		}
		if d < MinDuration || d > MaxDuration || d > orDefault(r.PolicyMax) || d > orDefault(r.RoleMax) || (chained && d > time.Hour) || d%time.Second != 0 {
			t.Errorf("clamp(%+v, %v) = %v", r, chained, d)
		}
	})
}

func TestPlanRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Request)
		ok     bool
	}{
		{"as it is", func(*Request) {}, true},
		{"no role", func(r *Request) { r.RoleARN = "" }, false},
		{"a user's ARN", func(r *Request) { r.RoleARN = "arn:aws:iam::222222222222:user/admin" }, false},
		{"an account of 11 digits", func(r *Request) { r.RoleARN = "arn:aws:iam::22222222222:role/admin" }, false},
		{"a role name of 64", func(r *Request) { r.RoleARN = "arn:aws:iam::222222222222:role/" + strings.Repeat("r", 64) }, true},
		{"a role name of 65", func(r *Request) { r.RoleARN = "arn:aws:iam::222222222222:role/" + strings.Repeat("r", 65) }, false},
		{"a newline after the role", func(r *Request) { r.RoleARN += "\n" }, false},
		{"China", func(r *Request) { r.RoleARN = "arn:aws-cn:iam::222222222222:role/admin" }, true},
		{"GovCloud", func(r *Request) { r.RoleARN = "arn:aws-us-gov:iam::222222222222:role/admin" }, true},
		{"an ARN of 2049", func(r *Request) { r.RoleARN = "arn:aws:iam::222222222222:role/" + strings.Repeat("p", 2015) + "/ab" }, false},
		{"an ARN of 2048", func(r *Request) { r.RoleARN = "arn:aws:iam::222222222222:role/" + strings.Repeat("p", 2014) + "/ab" }, true},
		{"an external ID of 1", func(r *Request) { r.ExternalID = "x" }, false},
		{"an external ID of 2", func(r *Request) { r.ExternalID = "xy" }, true},
		{"an external ID of 1224", func(r *Request) { r.ExternalID = strings.Repeat("x", 1224) }, true},
		{"an external ID of 1225", func(r *Request) { r.ExternalID = strings.Repeat("x", 1225) }, false},
		{"an external ID with a blank", func(r *Request) { r.ExternalID = "x y" }, false},
		{"no login", func(r *Request) { r.LoginID = "" }, false},
		{"no request ID", func(r *Request) { r.RequestID = "" }, false},
		{"a login outside the grammar", func(r *Request) { r.LoginID = "ses_;" }, false},
		{"a login of 256", func(r *Request) { r.LoginID = strings.Repeat("l", 256) }, true},
		{"a login of 257", func(r *Request) { r.LoginID = strings.Repeat("l", 257) }, false},
		{"an identity without a name", func(r *Request) { r.Identity = Identity{} }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request()
			tt.change(&r)
			c, err := plan(r, false)
			if (err == nil) != tt.ok {
				t.Fatalf("plan: %v; want ok %v", err, tt.ok)
			}
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Kind != KindInvalid) {
				t.Errorf("%v is not of KindInvalid", err)
			}
			if err != nil && !cmp.Equal(c, Call{}) {
				t.Errorf("a refusal comes with parameters: %+v", c)
			}
		})
	}
}

func TestTicket(t *testing.T) {
	tests := []struct{ name, ticket, want string }{
		{"plain", "OPS-17", "OPS-17"},
		{"address", "https://t.example/OPS-17", "https://t.example/OPS-17"},
		{"other characters", "OPS#17;drop\n\x1b[2J", "OPS_17_drop___2J"},
		{"broken UTF-8", "OPS\xff17", "OPS_17"},
		{"256 characters", strings.Repeat("é", 256), strings.Repeat("é", 256)},
		{"257 characters", strings.Repeat("é", 257), strings.Repeat("é", 256)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request()
			r.Ticket = tt.ticket
			c, err := plan(r, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Tags[len(c.Tags)-1]; got != (Tag{TagTicket, tt.want}) {
				t.Errorf("tag %+v; want %q", got, tt.want)
			}
			if told := len(c.Notices) == 1; told != (tt.ticket != tt.want) {
				t.Errorf("notices %q", c.Notices)
			}
		})
	}
}

func FuzzTagValue(f *testing.F) {
	f.Add("OPS-17")
	f.Add("a\xff\n;é")
	f.Fuzz(func(t *testing.T, s string) {
		v := tagValue(s)
		if !fits(v) || len([]rune(v)) > maxTagValue {
			t.Fatalf("tagValue(%q) = %q", s, v)
		}
		if tagValue(v) != v {
			t.Fatalf("tagValue is not idempotent on %q", v)
		}
		if fits(s) && len([]rune(s)) <= maxTagValue && v != s {
			t.Fatalf("%q fits and became %q", s, v)
		}
	})
}

func TestValidateTags(t *testing.T) {
	if err := validateTags([]Tag{{"a", "1"}, {"A", "2"}}); err == nil {
		t.Error("keys that differ by case alone were accepted")
	}
	if err := validateTags([]Tag{{strings.Repeat("k", 129), "1"}}); err == nil {
		t.Error("a key of 129 was accepted")
	}
	if err := validateTags([]Tag{{strings.Repeat("k", 128), "1"}}); err != nil {
		t.Error(err)
	}
}
