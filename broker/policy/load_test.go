package policy

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const permitAll = "permit (principal, action, resource)"

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  []string // lines of the error, each by its beginning
	}{
		"empty folder": {nil, []string{"no policy in any *.cedar file"}},
		"comments alone": {[]string{"a.cedar", "// nothing\n"},
			[]string{"no policy in any *.cedar file"}},
		"other files alone": {[]string{"a.txt", everything, "a.cedar.bak", everything},
			[]string{"no policy in any *.cedar file"}},
		"not Cedar": {[]string{"a.cedar", "\n@id(\"a\")\npermit (principal, action, resources);"},
			[]string{`a.cedar:3:`}},
		"string without end": {[]string{"a.cedar", "\n@id(\"a)"}, []string{"a.cedar:2:"}},
		"not UTF-8":          {[]string{"a.cedar", "@id(\"\xff\")" + permitAll + ";"}, []string{"a.cedar:1:"}},
		"no ID":              {[]string{"a.cedar", "\n\n" + permitAll + ";"}, []string{`a.cedar:3: no @id`}},
		"empty ID":           {[]string{"a.cedar", `@id("") ` + permitAll + ";"}, []string{`a.cedar:1: no @id`}},
		"ID without value":   {[]string{"a.cedar", `@id ` + permitAll + ";"}, []string{`a.cedar:1: no @id`}},
		"ID with a space":    {[]string{"a.cedar", `@id("a b") ` + permitAll + ";"}, []string{`a.cedar:1: @id("a b"): use`}},
		"ID with a line":     {[]string{"a.cedar", `@id("a\nb") ` + permitAll + ";"}, []string{`a.cedar:1: @id("a\nb"): use`}},
		"two IDs":            {[]string{"a.cedar", `@id("a") @id("b") ` + permitAll + ";"}, []string{`a.cedar:1:`}},
		"the same ID twice": {[]string{"a.cedar", everything, "b.cedar", "\n" + everything},
			[]string{`b.cedar:2: @id("all") is already that of a.cedar:1`}},
		"the same ID twice in a file": {[]string{"a.cedar", everything + "\n" + everything},
			[]string{`a.cedar:2: @id("all") is already that of a.cedar:1`}},
		"unknown action": {[]string{"a.cedar", "\n" + `@id("a") permit (principal, action == Action::"fly", resource);`},
			[]string{"a.cedar:2: unable to find an applicable action", "a.cedar:2: unrecognized action `Action::\"fly\"`"}},
		"unknown attribute": {[]string{"a.cedar", `@id("a") permit (principal, action == Action::"assume", resource) when { resource.arn == "x" };`},
			[]string{"a.cedar:1: attribute `arn`"}},
		"attribute of another action": {[]string{"a.cedar", `@id("a") permit (principal, action == Action::"assume", resource) when { context.login == "x" };`},
			[]string{"a.cedar:1: attribute `login`"}},
		"optional attribute without has": {[]string{"a.cedar", `@id("a") permit (principal is User, action, resource) when { principal.email == "x" };`},
			[]string{"a.cedar:1: unable to guarantee safety of access to optional attribute `email`"}},
		"tag without hasTag": {[]string{"a.cedar", `@id("a") permit (principal, action == Action::"assume", resource) when { resource.getTag("env") == "x" };`},
			[]string{"a.cedar:1: unable to guarantee safety of access to tag"}},
		"unknown entity type": {[]string{"a.cedar", `@id("a") permit (principal is Robot, action, resource);`},
			[]string{"a.cedar:1: unable to find", "a.cedar:1: unrecognized entity type `Robot`"}},
		"action that does not apply": {[]string{"a.cedar", `@id("a") permit (principal, action == Action::"assume", resource is Host);`},
			[]string{"a.cedar:1: unable to find an applicable action"}},
		"extension value that is none": {[]string{"a.cedar", `@id("a") forbid (principal, action, resource) when { ip("10.0.0.300").isLoopback() };`},
			[]string{"a.cedar:1: "}},
		"extension call on what was typed": {[]string{"a.cedar", `@id("a") forbid (principal, action, resource) when { ip(context.reason).isLoopback() };`},
			[]string{"a.cedar:1: extension constructors may not be called with non-literal"}},
		"resource in a group": {[]string{"a.cedar", `@id("a") forbid (principal, action == Action::"revoke", resource in Group::"x");`},
			[]string{`a.cedar:1: "resource in" never holds`}},
		"resource in a group, typed": {[]string{"a.cedar", `@id("a") forbid (principal, action, resource is User in Group::"x");`},
			[]string{`a.cedar:1: "resource in" never holds`}},
		"resource in a group, as a condition": {[]string{"a.cedar", `@id("a") forbid (principal, action, resource) when { context.mfa && resource in Group::"x" };`},
			[]string{`a.cedar:1: "resource in" never holds`}},
		"resource is in a group, as a condition": {[]string{"a.cedar", `@id("a") forbid (principal, action, resource) unless { resource is User in Group::"x" };`},
			[]string{`a.cedar:1: "resource in" never holds`}},
		"misspelt annotation": {[]string{"a.cedar", `@id("a") @max_durration("1h") ` + permitAll + ";"},
			[]string{"a.cedar:1: unknown annotation @max_durration"}},
		"obligation on a forbid": {[]string{"a.cedar", `@id("a") @require_reason("yes") forbid (principal, action, resource);`},
			[]string{"a.cedar:1: @require_reason has no meaning on a forbid"}},
		"reason that clears the screen": {[]string{"a.cedar", `@id("a") @reason("\u{1b}[2J") ` + permitAll + ";"},
			[]string{`a.cedar:1: @reason("\x1b[2J"): holds`}},
		"policy in a subfolder": {[]string{"a.cedar", everything, "forbids/b.cedar", everything},
			[]string{"read policies: forbids/b.cedar lies in a subfolder"}},
		"nested too deep": {[]string{"a.cedar", "// (((\n" + `@id("a") ` + permitAll + ` when { "[[[\"" == "" ||` + "\n" + strings.Repeat("(", 70)},
			[]string{"a.cedar:3: brackets nested deeper than 64"}},
		"too large": {[]string{"a.cedar", strings.Repeat(" ", maxFile+1)}, []string{"read policies: a.cedar: larger than 256 KiB"}},
		"folder with a policy's name": {[]string{"a.cedar/x.txt", ""},
			[]string{"no policy in any *.cedar file"}},
		"schema that is none": {[]string{"schema.cedarschema", "entity;\n", "a.cedar", everything},
			[]string{"schema.cedarschema:1:"}},
		"schema that does not resolve": {[]string{"schema.cedarschema", "entity User in [Nobody];\n", "a.cedar", everything},
			[]string{"schema.cedarschema: "}},
		"schema that knows less": {[]string{"schema.cedarschema", `entity User; entity Role; action assume appliesTo { principal: User, resource: Role };`,
			"a.cedar", `@id("a") permit (principal, action == Action::"connect", resource);`},
			[]string{"a.cedar:1: unable to find", "a.cedar:1: unrecognized action `Action::\"connect\"`"}},
		"schema that promises more than the broker gives": {[]string{"schema.cedarschema",
			strings.Replace(string(Schema()), "account: String,", "account: String, secret: String,", 1),
			"a.cedar", `@id("a") forbid (principal, action, resource is Role) when { resource.secret == "x" };`},
			[]string{"a.cedar:1: attribute `secret`"}},
		"everything wrong at once": {[]string{"a.cedar", permitAll + ";", "b.cedar", "permit", "c.cedar", `@id("c") @nope ` + permitAll + ";"},
			[]string{"a.cedar:1: no @id", "b.cedar:1:", "c.cedar:1: unknown annotation @nope"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Load(folder(c.files...))
			if err == nil || s != nil {
				t.Fatalf("loaded: %v, %v", s, err)
			}
			lines := strings.Split(err.Error(), "\n")
			ok := len(lines) == len(c.want)
			for i := range min(len(lines), len(c.want)) {
				ok = ok && strings.HasPrefix(lines[i], c.want[i])
			}
			if !ok {
				t.Errorf("errors (-want beginnings +got):\n%s", cmp.Diff(c.want, lines))
			}
		})
	}
}

func TestBadAnnotationValues(t *testing.T) {
	for _, annotation := range []string{
		`@max_duration`, `@max_duration("")`, `@max_duration("1")`, `@max_duration("1 hour")`, `@max_duration("0s")`, `@max_duration("-1h")`,
		`@max_duration("1ms")`, `@max_duration("1500ms")`, `@max_duration("9999999h")`, `@max_idle("never")`, `@max_idle("0s")`, `@max_auth_age("soon")`, `@max_auth_age("0h")`,
		`@require_reason`, `@require_reason("true")`, `@require_reason("no")`, `@require_reason("Yes")`, `@require_ticket("1")`,
		`@device_grant`, `@device_grant("yes")`, `@no_mfa("true")`, `@no_mfa("Allowed")`, `@registered_key("yes")`, `@require_hardware_key("allowed")`, `@require_user_verification("no")`, `@ID("x")`, `@principal("x")`,
	} {
		_, err := Load(folder("a.cedar", `@id("a") `+annotation+` `+permitAll+";"))
		if err == nil || !strings.HasPrefix(err.Error(), "a.cedar:1: ") {
			t.Errorf("%s: %v", annotation, err)
		}
	}
}

func TestLoadAccepts(t *testing.T) {
	for name, files := range map[string][]string{
		"one file":            {"a.cedar", everything},
		"schema of our own":   {"a.cedar", everything, "schema.cedarschema", string(Schema())},
		"notes beside it":     {"a.cedar", everything, "README.md", "(((((", "tests/a.json", "{}"},
		"a hidden folder":     {"a.cedar", everything, "..data/a.cedar", "what was mounted here"},
		"CRLF":                {"a.cedar", "// note\r\n" + everything + "\r\n"},
		"brackets in strings": {"a.cedar", `@id("a") @reason("` + strings.Repeat("(", 100) + `") ` + permitAll + ";"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Load(folder(files...))
			if err != nil {
				t.Fatal(err)
			}
			if len(s.rules) != 1 || !s.Decide(ask()).Allow {
				t.Errorf("%d policies, %+v", len(s.rules), s.Decide(ask()))
			}
		})
	}
}

func TestUnreadableFolder(t *testing.T) {
	for name, fsys := range map[string]fs.FS{
		"absent":          failing{fstest.MapFS{}, "."},
		"file unreadable": failing{folder("a.cedar", everything, "b.cedar", everything), "b.cedar"},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := Load(fsys); s != nil || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
}

// failing refuses to open one name.
type failing struct {
	fs.FS
	name string
}

func (f failing) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

func TestDigest(t *testing.T) {
	base := load(t, everything).Digest()
	if len(base) != 64 || base != load(t, everything).Digest() {
		t.Fatalf("digest %q", base)
	}
	seen := map[string]string{base: "base"}
	for name, files := range map[string][]string{
		"another byte":      {"p.cedar", everything + " "},
		"another name":      {"q.cedar", everything},
		"a comment file":    {"p.cedar", everything, "q.cedar", "// x"},
		"a schema":          {"p.cedar", everything, "schema.cedarschema", string(Schema())},
		"cut early":         {"p.cedar", everything, "q.cedar", "//x"},
		"cut late":          {"p.cedar", everything + "//", "q.cedar", "//x"},
		"a framing in text": {"p.cedar", everything + "//q.cedar 3\n//x"},
	} {
		s, err := Load(folder(files...))
		if err != nil {
			t.Fatal(err)
		}
		if first, dup := seen[s.Digest()]; dup {
			t.Errorf("%q and %q have one digest", name, first)
		}
		seen[s.Digest()] = name
	}
	with := func(extra string) string {
		s, err := Load(folder("p.cedar", everything, "notes.txt", extra))
		if err != nil {
			t.Fatal(err)
		}
		return s.Digest()
	}
	if with("a") != base || with("b") != base {
		t.Error("a file that is no policy changes the digest")
	}
}

func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		everything, errs, long, "", "//", "permit", `@id("a")`, "((((", `"\`, "@id(\"a\") permit (principal,\naction = x, resource);",
		`@id("a") permit (principal is User in Group::"g", action in [Action::"assume"], resource == Role::"r") when { context.mfa } unless { -1 < 2 };`,
		`@id("a") forbid (principal, action, resource) when { if context has source then context.source.isLoopback() else {a: [1, "x"]}.a.contains(1) };`,
		`@id("a") permit (principal, action, resource) when { principal in [Group::"a", Group::"b"] && resource.hasTag("x") && resource.getTag("x") like "a*\*" };`,
	} {
		f.Add(seed)
	}
	requests := []Request{ask(), ask(machine, on(ActionVerifyLog, TypeAuditLog, "log")), ask(on(ActionReplay, TypeRecording, "x"), noMFA)}
	f.Fuzz(func(t *testing.T, source string) {
		s, err := Load(folder("a.cedar", source))
		if (s == nil) == (err == nil) {
			t.Fatalf("%v, %v", s, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "a.cedar") && !strings.HasPrefix(err.Error(), "no policy") {
				t.Errorf("the error names no file: %v", err)
			}
			return
		}
		roundTrip(t, s, requests)
	})
}

// roundTrip prints the policies anew, loads that, and expects the same answers.
func roundTrip(t *testing.T, s *Set, requests []Request) {
	t.Helper()
	var printed strings.Builder
	for _, r := range s.rules {
		printed.Write(r.policy.MarshalCedar())
		printed.WriteString("\n")
	}
	again, err := Load(folder("a.cedar", printed.String()))
	if err != nil {
		t.Fatalf("what was printed does not load: %v\n%s", err, printed.String())
	}
	for _, r := range requests {
		a, b := s.Decide(r), again.Decide(r)
		a.Digest, b.Digest, a.Errors, b.Errors = "", "", nil, nil
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("after a round trip (-first +second):\n%s", diff)
		}
	}
}
