package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"sega/broker/api"
	"sega/cmd/sega/awsconfig"
)

// configureOptions are the flags of configure.
type configureOptions struct {
	aws, ssh, imports, undo          bool
	toStdout, prune, all, remove     bool
	region, templateText, namePrefix string
	key                              ownKeyOptions
}

// edit is what a run does to ~/.aws/config.
type edit func(f *awsconfig.File) ([]awsconfig.Change, error)

// configureAWS edits ~/.aws/config, or shows what it would do. roles asks for all roles there are.
func (a *app) configureAWS(ctx context.Context, o configureOptions, roles func() ([]api.Role, error)) error {
	path, err := awsconfig.ConfigPath(a.getenv)
	if err != nil {
		return err
	}
	change, err := a.awsEdit(o, roles)
	if err != nil {
		return err
	}
	var changes []awsconfig.Change
	if o.toStdout {
		changes, err = a.showEdit(path, change, a.json)
	} else {
		_, err = awsconfig.Edit(ctx, path, func(f *awsconfig.File) (err error) {
			changes, err = change(f)
			return err
		})
	}
	if errors.Is(err, awsconfig.ErrChanged) {
		return withHint(err, "run the same command again")
	}
	if err != nil {
		return err
	}
	return errors.Join(a.reportChanges(o, changes), a.warnShadows(changes), refusals(changes))
}

// showEdit prints a change as a diff, unless quiet, and makes it nowhere.
func (a *app) showEdit(path string, change edit, quiet bool) ([]awsconfig.Change, error) {
	f, err := awsconfig.Read(path)
	if err != nil {
		return nil, err
	}
	changes, err := change(f)
	if err == nil {
		err = f.Sound()
	}
	if err == nil && !quiet {
		_, err = fmt.Fprint(a.out, escape(f.Diff(path)))
	}
	return changes, err
}

// awsEdit is what the flags ask for.
func (a *app) awsEdit(o configureOptions, roles func() ([]api.Role, error)) (edit, error) {
	if o.undo {
		return func(f *awsconfig.File) ([]awsconfig.Change, error) { return awsconfig.Restore(f), nil }, nil
	}
	name, err := o.namer()
	if err != nil {
		return nil, err
	}
	program, err := a.program()
	if err != nil {
		return nil, err
	}
	have, err := roles()
	if err != nil {
		return nil, err
	}
	if o.imports {
		return a.importEdit(program, have)
	}
	wanted := o.profiles(have, name)
	return func(f *awsconfig.File) ([]awsconfig.Change, error) {
		changes, err := awsconfig.Apply(f, program, wanted, o.prune)
		if err != nil {
			err = usagef("%v: tell them apart by --template", err)
		}
		return changes, err
	}, nil
}

// importEdit takes over profiles of other tools.
func (a *app) importEdit(program awsconfig.Program, have []api.Role) (edit, error) {
	var roles []awsconfig.Role
	for _, r := range have {
		roles = append(roles, awsconfig.Role{Name: r.Name, ARN: r.ARN, Allowed: r.Allowed, Why: r.Why})
	}
	var others awsconfig.Others
	for _, file := range []struct {
		path func(func(string) string) (string, error)
		into **awsconfig.File
	}{{awsconfig.CredentialsPath, &others.Credentials}, {awsconfig.SAML2AWSPath, &others.SAML2AWS}} {
		path, err := file.path(a.getenv)
		if err != nil {
			return nil, err
		}
		if *file.into, err = awsconfig.Read(path); err != nil {
			return nil, err
		}
	}
	return func(f *awsconfig.File) ([]awsconfig.Change, error) {
		return awsconfig.Import(f, others, program, roles), nil
	}, nil
}

// namer makes names of profiles. The template is one of text/template that names fields and does
// nothing else; the package itself would make sega a quarter larger.
func (o configureOptions) namer() (func(api.Role) string, error) {
	if strings.Trim(o.region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, usagef("%q is not a region like eu-west-1", o.region)
	}
	var parts []func(api.Role) string
	rest := o.templateText
	for rest != "" {
		text, after, more := strings.Cut(rest, "{{")
		parts = append(parts, func(api.Role) string { return text })
		if !more {
			break
		}
		name, behind, closed := strings.Cut(after, "}}")
		field, ok := roleFields[strings.TrimSpace(name)]
		if !closed || !ok {
			return nil, usagef("--template knows {{.Name}}, {{.Account}}, {{.ARN}} and {{.Description}}, not %q", "{{"+after)
		}
		parts, rest = append(parts, field), behind
	}
	return func(r api.Role) string {
		name := o.namePrefix
		for _, part := range parts {
			name += part(r)
		}
		return name
	}, nil
}

// roleFields are what the template of a profile's name may use.
var roleFields = map[string]func(api.Role) string{
	".Name": func(r api.Role) string { return r.Name }, ".Account": func(r api.Role) string { return r.Account },
	".ARN": func(r api.Role) string { return r.ARN }, ".Description": func(r api.Role) string { return r.Description },
}

// profiles are those that the roles are to have.
func (o configureOptions) profiles(roles []api.Role, name func(api.Role) string) (out []awsconfig.Profile) {
	for _, r := range roles {
		if r.Allowed || o.all {
			out = append(out, awsconfig.Profile{Name: name(r), Role: r.Name, Region: o.region})
		}
	}
	return out
}

// program is this very sega, as any shell finds it: with the variables that it was told its folder and
// broker by, where they are not the default.
func (a *app) program() (awsconfig.Program, error) {
	path, err := ownPath(os.Args[0])
	if err != nil {
		return awsconfig.Program{}, err
	}
	p := awsconfig.Program{Path: path, Windows: runtime.GOOS == "windows"}
	if dir, err := a.home(); err != nil {
		return p, err
	} else if usual, err := (&app{getenv: func(string) string { return "" }}).home(); err != nil || dir != usual {
		p.Env = append(p.Env, "SEGA_HOME="+dir)
	}
	if origin := a.getenv("SEGA_BROKER"); origin != "" {
		p.Env = append(p.Env, "SEGA_BROKER="+origin)
	}
	if file := a.getenv("SEGA_CA_FILE"); file != "" {
		file, err := filepath.Abs(file)
		if err != nil {
			return p, err
		}
		p.Env = append(p.Env, "SEGA_CA_FILE="+file)
	}
	if p.Windows && len(p.Env) > 0 {
		fmt.Fprintf(a.err, "sega: profiles cannot set variables here; set these for your account: %s\n", escape(strings.Join(p.Env, ", ")))
		p.Env = nil
	}
	return p, nil
}

// ownPath is where this program lies, by the name under which it was called: what a package manager
// links to changes with each version, and the link stays.
func ownPath(called string) (string, error) {
	real, err := os.Executable()
	if err != nil {
		return "", err
	}
	is, err := os.Stat(real)
	if err != nil {
		return "", withHint(errors.New("this sega was replaced while it ran"), "run the same command again")
	}
	found, err := exec.LookPath(called)
	if err != nil {
		return real, nil
	}
	if found, err = filepath.Abs(found); err != nil {
		return real, nil
	}
	if info, err := os.Stat(found); err != nil || !os.SameFile(is, info) {
		return real, nil
	}
	return found, nil
}

// reportChanges says what became of each profile. What is printed beside a diff is talk.
func (a *app) reportChanges(o configureOptions, changes []awsconfig.Change) error {
	if a.json {
		return jsonLines(a.out, changes)
	}
	w := a.out
	if o.toStdout {
		w = a.err
	}
	if len(changes) == 0 {
		fmt.Fprintln(a.err, "sega: there is no profile to configure")
		return nil
	}
	var rows [][]string
	for _, c := range changes {
		rows = append(rows, []string{string(c.Action), c.Profile, c.Role, c.Why})
	}
	return table(w, []string{"WHAT", "PROFILE", "ROLE", "WHY"}, rows)
}

// warnShadows names what SDKs use instead of sega in profiles that it keeps.
func (a *app) warnShadows(changes []awsconfig.Change) error {
	ours := map[string]bool{}
	for _, c := range changes {
		if c.Action != awsconfig.Refused && c.Action != awsconfig.Restored && c.Action != awsconfig.Removed && c.Role != "" {
			ours[c.Profile] = true
		}
	}
	shadows, err := awsconfig.Shadows(a.getenv)
	for _, s := range shadows {
		if s.Over == awsconfig.OverProcess && ours[s.Profile] {
			fmt.Fprintf(a.err, "sega: the profile %s does not ask sega: %s in line %d of %s comes first; remove it\n", escape(s.Profile), s.Key, s.Line, escape(s.File))
		}
	}
	return err
}

// refusals is the error of profiles that could not be kept.
func refusals(changes []awsconfig.Change) error {
	n := 0
	for _, c := range changes {
		if c.Action == awsconfig.Refused {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%s as before: see WHY", plural(n, "profile is", "profiles are")), "give sega's profiles other names by --prefix or --template, or add the line sega_role = ROLE to a profile for sega to keep it")
}
