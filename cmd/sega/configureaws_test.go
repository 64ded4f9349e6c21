package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/broker/api"
	"sega/cmd/sega/awsconfig"
)

var someRoles = []api.Role{
	{Name: "dev-admin", Account: "111111111111", ARN: "arn:aws:iam::111111111111:role/dev-admin", Description: "everything in development", Allowed: true},
	{Name: "ops", Account: "222222222222", ARN: "arn:aws:iam::222222222222:role/team/ops", Allowed: true},
	{Name: "prod", Account: "333333333333", ARN: "arn:aws:iam::333333333333:role/prod", Why: `it needs group "oncall"`},
}

// awsHome is a folder with AWS's files, and the app of a person who lives there.
func awsHome(t *testing.T, config, credentials string) (a *app, dir string, out, talk func() string) {
	t.Helper()
	home := t.TempDir()
	dir = filepath.Join(home, ".aws")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	for name, text := range map[string]string{"config": config, "credentials": credentials} {
		if text == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, past, past)); err != nil {
			t.Fatal(err)
		}
	}
	a, outBuf, talkBuf := testApp(t, "HOME="+home)
	take := func(s interface {
		String() string
		Reset()
	}) func() string {
		return func() string {
			defer s.Reset()
			return s.String()
		}
	}
	return a, dir, take(outBuf), take(talkBuf)
}

func (a *app) configureTest(t *testing.T, o configureOptions, roles ...api.Role) error {
	t.Helper()
	if o.templateText == "" {
		o.templateText = "{{.Name}}"
	}
	return a.configureAWS(t.Context(), o, func() ([]api.Role, error) { return roles, nil })
}

func readFile(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestConfigureAWS(t *testing.T) {
	const mine = "# mine\n[default]\nregion = x\n"
	a, dir, out, talk := awsHome(t, mine, "[dev-admin]\naws_access_key_id = canary\n")
	keys, err := os.Stat(filepath.Join(dir, "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.configureTest(t, configureOptions{region: "eu-west-1", toStdout: true}, someRoles...); err != nil {
		t.Fatal(err)
	}
	if got := out(); !strings.Contains(got, "+[profile dev-admin]\n") || strings.Contains(got, "prod") || readFile(t, dir, "config") != mine {
		t.Errorf("--print shows\n%s\nand leaves\n%s", got, readFile(t, dir, "config"))
	}
	talk()
	if err := a.configureTest(t, configureOptions{region: "eu-west-1"}, someRoles...); err != nil {
		t.Fatal(err)
	}
	text := readFile(t, dir, "config")
	sega, home := first(ownPath(os.Args[0])), a.getenv("SEGA_HOME")
	want := mine + "\n[profile dev-admin]\n# made by: sega configure\ncredential_process = /usr/bin/env SEGA_HOME=" + home + " " + sega + " credential-process dev-admin\nsega_role = dev-admin\nregion = eu-west-1\n" +
		"\n[profile ops]\n# made by: sega configure\ncredential_process = /usr/bin/env SEGA_HOME=" + home + " " + sega + " credential-process ops\nsega_role = ops\nregion = eu-west-1\n"
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if got := out(); !strings.Contains(got, "added  dev-admin  dev-admin") || strings.Count(got, "\n") != 3 {
		t.Errorf("it says\n%s", got)
	}
	if got := talk(); !strings.Contains(got, "the profile dev-admin does not ask sega: aws_access_key_id in line 2 of "+filepath.Join(dir, "credentials")) || strings.Contains(got, "canary") {
		t.Errorf("no word of the keys that win: %s", got)
	}
	was, err := os.Stat(filepath.Join(dir, "config"))
	if err != nil {
		t.Fatal(err)
	}
	a.json = true
	if err := a.configureTest(t, configureOptions{region: "eu-west-1", prune: true}, someRoles...); err != nil {
		t.Fatal(err)
	}
	a.json = false
	is, err := os.Stat(filepath.Join(dir, "config"))
	if err != nil || !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) {
		t.Errorf("a second run writes the file (%v)", err)
	}
	for line := range strings.Lines(out()) {
		var c awsconfig.Change
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.Action != awsconfig.Kept {
			t.Errorf("%s: %v", line, err)
		}
	}
	if err := a.configureTest(t, configureOptions{prune: true}); err != nil || readFile(t, dir, "config") != mine {
		t.Errorf("pruned, %v: %s", err, readFile(t, dir, "config"))
	}
	again, err := os.Stat(filepath.Join(dir, "credentials"))
	if err != nil || !os.SameFile(keys, again) || !keys.ModTime().Equal(again.ModTime()) || readFile(t, dir, "credentials") != "[dev-admin]\naws_access_key_id = canary\n" {
		t.Errorf("~/.aws/credentials was touched: %v", err)
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestConfigureRefuses: what is somebody's stays, the rest is done, and the exit code is 1.
func TestConfigureRefuses(t *testing.T) {
	a, dir, out, _ := awsHome(t, "[profile ops]\nregion = mine\n", "")
	err := a.configureTest(t, configureOptions{}, someRoles...)
	if exitCode(err) != exitFailed || !strings.Contains(explained(err), "--prefix") {
		t.Errorf("%v", err)
	}
	text := readFile(t, dir, "config")
	if !strings.HasPrefix(text, "[profile ops]\nregion = mine\n\n[profile dev-admin]\n") || strings.Count(text, "[") != 2 {
		t.Errorf("got\n%s", text)
	}
	if got := out(); !strings.Contains(got, "refused  ops") || !strings.Contains(got, "line 1 is not sega's") {
		t.Errorf("it says\n%s", got)
	}
	if err := a.configureTest(t, configureOptions{namePrefix: "sega-", prune: true}, someRoles...); err != nil {
		t.Error(err)
	}
	if text := readFile(t, dir, "config"); strings.Contains(text, "[profile dev-admin]") || !strings.Contains(text, "[profile sega-ops]") {
		t.Errorf("with a prefix\n%s", text)
	}
}

// TestConfigureNames: names come from the template, and the broker's words become no lines and no commands.
func TestConfigureNames(t *testing.T) {
	hostile := []api.Role{
		{Name: "a; touch canary", Allowed: true}, {Name: "$(canary)", Allowed: true}, {Name: "x]\n[default]\ncredential_process = canary", Allowed: true},
		{Name: "--canary", Allowed: true}, {Name: "fine", Account: "1", Description: "canary\nrole_arn = x", Allowed: true},
	}
	for name, tt := range map[string]struct {
		options configureOptions
		roles   []api.Role
		want    []string // sections
		code    int
	}{
		"all":                {configureOptions{all: true}, someRoles, []string{"profile dev-admin", "profile ops", "profile prod"}, 0},
		"by account":         {configureOptions{templateText: "{{.Account}}/{{.Name}}"}, someRoles, []string{"profile 111111111111/dev-admin", "profile 222222222222/ops"}, 0},
		"prefix and ARN":     {configureOptions{namePrefix: "p-", templateText: "{{ .ARN }}-x"}, someRoles, []string{"profile p-arn:aws:iam::111111111111:role/dev-admin-x", "profile p-arn:aws:iam::222222222222:role/team/ops-x"}, 0},
		"a pipeline":         {configureOptions{templateText: "{{.Name | len}}"}, someRoles, nil, exitUsage},
		"all the same":       {configureOptions{templateText: "x"}, someRoles, nil, exitUsage},
		"default":            {configureOptions{templateText: "default"}, someRoles[:1], nil, exitFailed},
		"no such field":      {configureOptions{templateText: "{{.Nope}}"}, someRoles, nil, exitUsage},
		"with a space":       {configureOptions{templateText: "{{.Description}}"}, someRoles[:1], nil, exitFailed},
		"a hostile broker":   {configureOptions{}, hostile, []string{"profile fine"}, exitFailed},
		"its descriptions":   {configureOptions{templateText: "{{.Name}}{{.Description}}"}, hostile[4:], nil, exitFailed},
		"a role of no use":   {configureOptions{}, someRoles[2:], nil, 0},
		"no roles, no file":  {configureOptions{prune: true}, nil, nil, 0},
		"nothing to restore": {configureOptions{undo: true}, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a, dir, _, _ := awsHome(t, "", "")
			if err := a.configureTest(t, tt.options, tt.roles...); exitCode(err) != tt.code {
				t.Errorf("exit %d: %v", exitCode(err), err)
			}
			f, err := awsconfig.Read(filepath.Join(dir, "config"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range f.Sections {
				got = append(got, s.Title)
			}
			if strings.Join(got, ",") != strings.Join(tt.want, ",") || strings.Contains(string(f.Bytes()), "canary") {
				t.Errorf("got\n%s", f.Bytes())
			}
		})
	}
}

func TestConfigureImport(t *testing.T) {
	const okta = "[okta]\naws_saml_url = x\n\n[profile work]\nsource_profile = okta\nrole_arn = arn:aws:iam::111111111111:role/dev-admin\nassume_role_ttl = 4h\nregion = eu-west-1\n\n[profile oncall]\nsource_profile = okta\nrole_arn = arn:aws:iam::333333333333:role/prod\n"
	a, dir, out, _ := awsHome(t, okta, "[team]\nx_principal_arn = arn:aws:sts::222222222222:assumed-role/ops/me\naws_access_key_id = x\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), ".saml2aws"), []byte("[default]\naws_profile = team\naws_session_duration = 3600\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.configureTest(t, configureOptions{imports: true}, someRoles...); err != nil {
		t.Fatal(err)
	}
	text, said := readFile(t, dir, "config"), out()
	for _, want := range []string{"credential-process dev-admin --duration 4h\n", "region = eu-west-1\n", "[profile team]\n", "credential-process ops --duration 3600\n", "# before sega: role_arn = arn:aws:iam::111111111111:role/dev-admin\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !strings.Contains(text, "[profile oncall]\nsource_profile = okta\nrole_arn") || !strings.Contains(said, `you may not use the role prod: it needs group "oncall"`) {
		t.Errorf("said\n%s\nwrote\n%s", said, text)
	}
	if err := a.configureTest(t, configureOptions{prune: true}, someRoles...); err != nil {
		t.Error(err)
	}
	if text := readFile(t, dir, "config"); !strings.Contains(text, "[profile work]") || !strings.Contains(text, "--duration 4h\n") || !strings.Contains(text, "[profile dev-admin]") {
		t.Errorf("after configure\n%s", text)
	}
	if err := errors.Join(a.configureTest(t, configureOptions{prune: true, namePrefix: "x"}), a.configureTest(t, configureOptions{undo: true})); err != nil || readFile(t, dir, "config") != okta {
		t.Errorf("undone, %v:\n%s", err, readFile(t, dir, "config"))
	}
}

// TestProgram: the variables by which a shell finds its broker go into the command, the default does not.
func TestProgram(t *testing.T) {
	usual, _, _ := testApp(t)
	dir, err := (&app{getenv: func(string) string { return "" }}).home()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"default":         {[]string{"SEGA_HOME="}, ""},
		"the default set": {[]string{"SEGA_HOME=" + dir}, ""},
		"all":             {[]string{"SEGA_HOME=/h", "SEGA_BROKER=b.example", "SEGA_CA_FILE=/ca.pem"}, "SEGA_HOME=/h SEGA_BROKER=b.example SEGA_CA_FILE=/ca.pem"},
	} {
		a, _, _ := testApp(t, tt.env...)
		p, err := a.program()
		if got := strings.Join(p.Env, " "); err != nil || got != tt.want || !filepath.IsAbs(p.Path) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if p, err := usual.program(); err != nil || len(p.Env) != 1 {
		t.Errorf("%v, %v", p, err)
	}
}

// TestOwnPath: a link to this program is kept as its name; something else of the name is not.
func TestOwnPath(t *testing.T) {
	real, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	link, other := filepath.Join(dir, "sega"), filepath.Join(dir, "other")
	if err := errors.Join(os.Symlink(real, link), os.WriteFile(other, []byte("#!/bin/sh\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for called, want := range map[string]string{link: link, other: real, filepath.Join(dir, "none"): real, real: real} {
		if got, err := ownPath(called); got != want {
			t.Errorf("%s: %s, %v", called, got, err)
		}
	}
}
