package awsconfig

import (
	"slices"
	"strings"
)

const (
	// was stands before each line that an import has put out of force.
	was = "# before sega: "

	// taken stands in each section of a person's that sega has taken over.
	taken = "# taken over by: sega configure --import (back: --undo-import)"
)

// Role is a role of the broker.
type Role struct {
	Name    string
	ARN     string
	Allowed bool
	Why     string // what is missing, where it is not allowed
}

// Import takes over the profiles of other tools whose role is one of the person's: names, regions and all
// else stay, what sega's command now does becomes a comment. The rest stays, and the changes say why.
func Import(f *File, others Others, program Program, roles []Role) []Change {
	var changes []Change
	for _, r := range rivals(f, others) {
		changes = append(changes, f.take(r, program, roles))
	}
	return changes
}

// take takes one profile over.
func (f *File) take(r rival, program Program, roles []Role) Change {
	keep := func(why string) Change { return Change{Kept, r.name, "", "of " + r.tool + ": " + why} }
	role, why := match(r.arn, roles)
	if why != "" {
		return keep(why)
	}
	duration, note := r.duration, ""
	if _, ok := parseDuration(duration); duration != "" && !ok {
		duration, note = "", ", without its duration "+r.duration
	}
	command, err := program.Command(role, duration)
	if err != nil {
		return keep(err.Error())
	}
	if r.section == nil {
		if err := CheckName(r.name); err != nil {
			return keep(err.Error())
		}
		f.add(Profile{Name: r.name, Role: role}, command).own(role, duration, r.tool, f.newline)
	} else {
		inheritedRegion := newBook(f).inherited(r.section, keyRegion, "include_profile")
		r.section.silence()
		r.section.set(keyProcess, command, "", f.newline)
		r.section.own(role, duration, r.tool, f.newline)
		if inheritedRegion != "" {
			r.section.set(keyRegion, inheritedRegion, keyImported, f.newline)
		}
		r.section.insert(1, r.section.depth(0)+taken, comment, f.newline)
	}
	return Change{Imported, r.name, role, "from " + r.tool + note}
}

// own marks a section as imported.
func (s *Section) own(role, duration, tool, newline string) {
	s.set(keyRole, role, keyProcess, newline)
	last := keyRole
	if duration != "" {
		s.set(keyDuration, duration, last, newline)
		last = keyDuration
	}
	s.set(keyImported, tool, last, newline)
}

// match finds the role of an ARN, which may be that of a session of it; else it says why there is none.
func match(arn string, roles []Role) (name, why string) {
	if arn == "" {
		return "", "it names no role"
	}
	var found []Role
	for _, r := range roles {
		if r.ARN == arn || assumed(arn, r.ARN) {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return "", "no role of the broker is " + arn
	}
	if slices.ContainsFunc(found, func(r Role) bool { return r.ARN != found[0].ARN }) {
		return "", "more than one role of the broker is " + arn
	}
	if i := slices.IndexFunc(found, func(r Role) bool { return r.Allowed }); i >= 0 {
		return found[i].Name, ""
	}
	return "", strings.TrimSuffix("you may not use the role "+found[0].Name+": "+found[0].Why, ": ")
}

// assumed reports whether an ARN is that of a session (arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION) of a
// role (arn:aws:iam::ACCOUNT:role/PATH/NAME), whose path the former lacks.
func assumed(session, role string) bool {
	s, r := strings.SplitN(session, ":", 6), strings.SplitN(role, ":", 6)
	if len(s) < 6 || len(r) < 6 || s[1] != r[1] || s[2] != "sts" || r[2] != "iam" || s[4] != r[4] {
		return false
	}
	words, path := strings.Split(s[5], "/"), strings.Split(r[5], "/")
	return len(words) == 3 && words[0] == "assumed-role" && path[0] == "role" && words[1] == path[len(path)-1]
}

// silence makes comments of the properties that sega's command replaces.
func (s *Section) silence() {
	for i := 0; i < len(s.lines); i++ {
		l := s.lines[i]
		if l.kind != property || !slices.Contains(rivalKeys, l.key()) {
			continue
		}
		end := s.valueEnd(i)
		for ; i < end; i++ {
			if k := s.lines[i].kind; k == property || k == continuation {
				s.lines[i].silence()
			}
		}
		i--
	}
}

func (l *line) silence() {
	at := len(l.indent())
	l.text, l.kind = l.text[:at]+was+l.text[at:], comment
}

// Restore undoes imports.
func Restore(f *File) []Change {
	var changes []Change
	for _, s := range slices.Clone(f.Sections) {
		role, ours := s.Get(keyRole)
		if tool, imported := s.Get(keyImported); ours && imported && s.Profile() != "" {
			changes = append(changes, f.restore(s, role, tool))
		}
	}
	f.reread()
	return changes
}

func (f *File) restore(s *Section, role, tool string) Change {
	name, keys := s.Profile(), []string{keyProcess, keyRole, keyDuration, keyImported}
	for _, key := range keys {
		if at := s.find(key); at > 0 && s.folded(at) {
			return Change{Refused, name, role, "the lines below " + key + " are indented, so they are a part of its value"}
		}
	}
	if s.has(made) && !s.has(taken) && s.foreign(keyImported) == 0 {
		f.remove(s)
		return Change{Removed, name, role, "it was not there before the import from " + tool}
	}
	for _, key := range keys {
		s.unset(key)
	}
	s.lines = slices.DeleteFunc(s.lines, func(l line) bool { return l.content() == taken || l.content() == made })
	for i, l := range s.lines {
		at := len(l.indent())
		if rest, ok := strings.CutPrefix(l.text[at:], was); ok {
			s.lines[i].text = l.text[:at] + rest
		}
	}
	return Change{Restored, name, role, "to what it was for " + tool}
}

func (s *Section) has(content string) bool {
	return slices.ContainsFunc(s.lines, func(l line) bool { return l.content() == content })
}

// reread gives lines their kinds anew, where comments have become lines of another.
func (f *File) reread() {
	var r reader
	for i := range f.top {
		f.top[i].kind = r.kind(f.top[i].text)
	}
	for _, s := range f.Sections {
		for i := range s.lines {
			s.lines[i].kind = r.kind(s.lines[i].text)
		}
	}
}

// unset removes a property whose value is one line.
func (s *Section) unset(key string) {
	if at := s.find(key); at > 0 {
		s.lines = slices.Delete(s.lines, at, at+1)
	}
}

// valueEnd is the line behind a property's value. Blank lines and comments at its end are not of it.
func (s *Section) valueEnd(at int) int {
	end := at + 1
	for i := at + 1; i < len(s.lines); i++ {
		switch s.lines[i].kind {
		case continuation:
			end = i + 1
		case blank, comment:
		default:
			return end
		}
	}
	return end
}
