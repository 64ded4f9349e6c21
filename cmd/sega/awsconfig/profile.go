package awsconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Properties of sega's own in its profiles. SDKs pass over what they do not know.
const (
	keyRole     = "sega_role"     // marks a section as sega's to keep
	keyDuration = "sega_duration" // how long, for the command; whoever sets it keeps it
	keyImported = "sega_imported" // from which tool; the section has a person's name and lines
	keyProcess  = "credential_process"
	keyRegion   = "region"
)

// made stands in each section that sega has made.
const made = "# made by: sega configure"

// Profile is a profile that ~/.aws/config is to have.
type Profile struct {
	Name   string
	Role   string
	Region string // for a section that has none; may be empty
}

// Action is what became of a profile.
type Action string

// What becomes of profiles.
const (
	Added    Action = "added"
	Changed  Action = "changed"
	Removed  Action = "removed"
	Kept     Action = "kept"     // as it was; Why says it where something else was asked for
	Refused  Action = "refused"  // as it was, though something else was asked for: a failure
	Imported Action = "imported" // from another tool
	Restored Action = "restored" // to what it was before the import
)

// Change is what became of one profile.
type Change struct {
	Action  Action `json:"action"`
	Profile string `json:"profile"`
	Role    string `json:"role"`
	Why     string `json:"why"`
}

// nameChars are those, beside letters and digits, of names that every SDK reads alike between the
// brackets: that for JavaScript takes no others, botocore and that for Go differ about quotes.
const nameChars = "_@+.%:/-"

// CheckName refuses names of profiles that AWS's tools do not all read alike, and "default", which would
// give its credentials to every program that names no profile.
func CheckName(name string) error {
	if name == "default" {
		return errors.New("a profile called default would be used by whatever names none")
	}
	if !only(name, nameChars) {
		return fmt.Errorf("a section of ~/.aws/config cannot be called %q: only letters, digits and %s are read alike by all of AWS's tools", name, nameChars)
	}
	return nil
}

// Apply gives a file the profiles that are wanted and brings those that sega has made up to date. prune
// removes the ones that are not wanted any more. What a person has written stays: sections without sega_role,
// and in sega's own every line but those of credential_process and sega_role.
func Apply(f *File, program Program, wanted []Profile, prune bool) ([]Change, error) {
	sections := map[string][]*Section{}
	for _, s := range f.Sections {
		sections[s.Profile()] = append(sections[s.Profile()], s)
	}
	var changes []Change
	names, roles := map[string]bool{}, map[string]bool{}
	old := slices.Clone(f.Sections)
	for _, p := range wanted {
		if names[p.Name] {
			return nil, fmt.Errorf("two roles would have the profile %s", p.Name)
		}
		names[p.Name], roles[p.Role] = true, true
		changes = append(changes, f.apply(program, p, sections[p.Name]))
	}
	for _, s := range old {
		if role, ours := s.Get(keyRole); ours && s.Profile() != "" && !names[s.Profile()] {
			changes = append(changes, f.unwanted(s, program, role, roles[role], prune))
		}
	}
	return changes, nil
}

// apply gives a file one profile, of which it has some sections.
func (f *File) apply(program Program, p Profile, have []*Section) Change {
	refuse := func(format string, args ...any) Change {
		return Change{Refused, p.Name, p.Role, fmt.Sprintf(format, args...)}
	}
	command, err := program.Command(p.Role, "")
	if err == nil {
		err = CheckName(p.Name)
	}
	if err != nil {
		return refuse("%v", err)
	}
	if len(have) == 0 {
		f.add(p, command)
		return Change{Added, p.Name, p.Role, ""}
	}
	if len(have) > 1 {
		return refuse("the section stands twice, in lines %d and %d", have[0].Line, have[1].Line)
	}
	s := have[0]
	role, ours := s.Get(keyRole)
	_, imported := s.Get(keyImported)
	process, _ := s.Get(keyProcess)
	switch {
	case imported && role != p.Role:
		return refuse("the profile in line %d was imported for the role %s", s.Line, role)
	case ours:
		return s.refresh(program, p, f.newline)
	case calls(process, p.Role):
		return Change{Kept, p.Name, p.Role, "made by hand"}
	}
	return refuse("the profile in line %d is not sega's", s.Line)
}

// unwanted is what becomes of a section of sega's that no profile which is wanted names. allowed is
// whether its role still is one of the person's: then it stays where it was imported.
func (f *File) unwanted(s *Section, program Program, role string, allowed, prune bool) Change {
	_, imported := s.Get(keyImported)
	switch {
	case imported && allowed:
		return s.refresh(program, Profile{Name: s.Profile(), Role: role}, f.newline)
	case prune:
		return f.prune(s, role)
	}
	return Change{Kept, s.Profile(), role, "not wanted any more: --prune removes it"}
}

// refresh brings a section of sega's up to date.
func (s *Section) refresh(program Program, p Profile, newline string) Change {
	refuse := func(why string) Change { return Change{Refused, p.Name, p.Role, why} }
	duration, _ := s.Get(keyDuration)
	command, err := program.Command(p.Role, duration)
	if err != nil {
		return refuse(err.Error())
	}
	for _, key := range []string{keyProcess, keyRole} {
		if at := s.find(key); at > 0 && s.folded(at) {
			return refuse("the lines below " + key + " are indented, so they are a part of its value")
		}
	}
	before := s.text()
	s.set(keyProcess, command, "", newline)
	s.set(keyRole, p.Role, keyProcess, newline)
	region, has := s.Get(keyRegion)
	if p.Region != "" && !has {
		s.set(keyRegion, p.Region, keyRole, newline)
	}
	action, why := Kept, ""
	if s.text() != before {
		action = Changed
	}
	if p.Region != "" && has && region != p.Region {
		why = "its region stays " + region
	}
	return Change{action, p.Name, p.Role, why}
}

// add puts a profile behind all others.
func (f *File) add(p Profile, command string) *Section {
	f.endLine()
	if before := f.last(); before != nil && len(*before) > 0 && (*before)[len(*before)-1].kind != blank {
		*before = append(*before, line{text: f.newline, kind: blank})
	}
	lines := []line{{text: "[profile " + p.Name + "]", kind: header}, {text: made, kind: comment},
		{text: keyProcess + " = " + command, kind: property}, {text: keyRole + " = " + p.Role, kind: property}}
	if p.Region != "" {
		lines = append(lines, line{text: keyRegion + " = " + p.Region, kind: property})
	}
	for i := range lines {
		lines[i].text += f.newline
	}
	s := newSection(lines[0])
	s.lines = lines
	f.Sections = append(f.Sections, s)
	return s
}

// prune removes a section where nothing in it is a person's.
func (f *File) prune(s *Section, role string) Change {
	if at := s.foreign(); at > 0 {
		return Change{Kept, s.Profile(), role, "not wanted any more, but a line in it is yours: " + s.lines[at].content()}
	}
	name := s.Profile()
	f.remove(s)
	return Change{Removed, name, role, ""}
}

// foreign is the first line of a section that sega has not written, properties of the names aside; 0
// where there is none.
func (s *Section) foreign(but ...string) int {
	keys := append([]string{keyProcess, keyRole, keyDuration, keyRegion}, but...)
	for i, l := range s.lines[:s.body()] {
		mine := l.kind == header || l.kind == blank || l.kind == comment && l.content() == made ||
			l.kind == property && slices.Contains(keys, l.key()) && l.raw() == uncomment(l.raw())
		if !mine {
			return i
		}
	}
	return 0
}

// remove takes a section out of a file, with the blank line before it that came with it. What comes
// behind its last property stays: it may belong to the section that follows.
func (f *File) remove(s *Section) {
	at := slices.Index(f.Sections, s)
	before := &f.top
	if at > 0 {
		before = &f.Sections[at-1].lines
	}
	if n := len(*before); n > 0 && strings.Trim((*before)[n-1].text, "\r\n") == "" {
		*before = (*before)[:n-1]
	}
	*before = append(*before, s.lines[s.body():]...)
	f.Sections = slices.Delete(f.Sections, at, at+1)
}
