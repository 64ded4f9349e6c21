package awsconfig

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var program = Program{Path: "/bin/sega"}

const dev = "[profile dev]\n# made by: sega configure\ncredential_process = /bin/sega credential-process dev\nsega_role = dev\n"

func TestApply(t *testing.T) {
	wantDev := []Profile{{Name: "dev", Role: "dev"}}
	for name, tt := range map[string]struct {
		text    string
		wanted  []Profile
		prune   bool
		want    string
		changes []Change
	}{
		"a new file":        {"", wantDev, false, dev, []Change{{Added, "dev", "dev", ""}}},
		"behind others":     {"[default]\nregion = x\n", wantDev, false, "[default]\nregion = x\n\n" + dev, []Change{{Added, "dev", "dev", ""}}},
		"behind a blank":    {"[default]\n\n", wantDev, false, "[default]\n\n" + dev, []Change{{Added, "dev", "dev", ""}}},
		"without a newline": {"# mine", wantDev, false, "# mine\n\n" + dev, []Change{{Added, "dev", "dev", ""}}},
		"CRLF": {"[default]\r\nregion = x", []Profile{{"dev", "dev", "eu"}}, false,
			"[default]\r\nregion = x\r\n\r\n" + strings.ReplaceAll(dev, "\n", "\r\n") + "region = eu\r\n", []Change{{Added, "dev", "dev", ""}}},
		"a mark":    {mark, wantDev, false, mark + dev, []Change{{Added, "dev", "dev", ""}}},
		"unchanged": {dev, wantDev, true, dev, []Change{{Kept, "dev", "dev", ""}}},
		"another program": {strings.Replace(dev, "/bin/sega", "/old/sega", 1) + "# mine\noutput = json\n", wantDev, true, dev + "# mine\noutput = json\n",
			[]Change{{Changed, "dev", "dev", ""}}},
		"another role of the name": {strings.ReplaceAll(dev, "= dev", "= old"), wantDev, false, strings.ReplaceAll(dev, "process dev", "process dev"), []Change{{Changed, "dev", "dev", ""}}},
		"its process is gone":      {"[profile dev]\n  output = json\n  sega_role = dev\n", wantDev, false, "[profile dev]\n  credential_process = /bin/sega credential-process dev\n  output = json\n  sega_role = dev\n", []Change{{Changed, "dev", "dev", ""}}},
		"a duration":               {"[profile dev]\nsega_role = dev\nsega_duration = 4h\n", wantDev, false, "[profile dev]\ncredential_process = /bin/sega credential-process dev --duration 4h\nsega_role = dev\nsega_duration = 4h\n", []Change{{Changed, "dev", "dev", ""}}},
		"a hostile duration":       {"[profile dev]\nsega_role = dev\nsega_duration = $(x)\n", wantDev, false, "[profile dev]\nsega_role = dev\nsega_duration = $(x)\n", []Change{{Refused, "dev", "dev", `"$(x)" is not a duration like 4h or 3600`}}},
		"a region for one without": {dev, []Profile{{"dev", "dev", "eu"}}, false, dev + "region = eu\n", []Change{{Changed, "dev", "dev", ""}}},
		"the same region":          {dev + "region = eu\n", []Profile{{"dev", "dev", "eu"}}, false, dev + "region = eu\n", []Change{{Kept, "dev", "dev", ""}}},
		"a region of their own":    {dev + "region = us\n", []Profile{{"dev", "dev", "eu"}}, false, dev + "region = us\n", []Change{{Kept, "dev", "dev", "its region stays us"}}},
		"somebody else's":          {"[profile dev]\nregion = x\n", wantDev, true, "[profile dev]\nregion = x\n", []Change{{Refused, "dev", "dev", "the profile in line 1 is not sega's"}}},
		"by hand": {"[profile dev]\ncredential_process = '/a b/sega' credential-process dev --reason x\n", wantDev, true,
			"[profile dev]\ncredential_process = '/a b/sega' credential-process dev --reason x\n", []Change{{Kept, "dev", "dev", "made by hand"}}},
		"by hand for another role": {"[profile dev]\ncredential_process = sega credential-process prod\n", wantDev, true,
			"[profile dev]\ncredential_process = sega credential-process prod\n", []Change{{Refused, "dev", "dev", "the profile in line 1 is not sega's"}}},
		"twice":  {dev + "\n" + dev, wantDev, true, dev + "\n" + dev, []Change{{Refused, "dev", "dev", "the section stands twice, in lines 1 and 6"}}},
		"folded": {dev[:strings.Index(dev, "sega_role")] + "  sega_role = dev\n", wantDev, true, dev[:strings.Index(dev, "sega_role")] + "  sega_role = dev\n", []Change{{Kept, "dev", "dev", "made by hand"}}},
		"folded by a person": {dev + "  output = json\n", wantDev, true, dev + "  output = json\n",
			[]Change{{Refused, "dev", "dev", "the lines below sega_role are indented, so they are a part of its value"}}},
		"not pruned": {dev, nil, false, dev, []Change{{Kept, "dev", "dev", "not wanted any more: --prune removes it"}}},
		"pruned":     {dev, nil, true, "", []Change{{Removed, "dev", "dev", ""}}},
		"pruned between others": {"[default]\nregion = x\n\n" + dev + "\n# about b\n[profile b]\n", nil, true, "[default]\nregion = x\n\n# about b\n[profile b]\n",
			[]Change{{Removed, "dev", "dev", ""}}},
		"a line of theirs": {dev + "output = json\n", nil, true, dev + "output = json\n", []Change{{Kept, "dev", "dev", "not wanted any more, but a line in it is yours: output = json"}}},
		"a comment of theirs": {strings.Replace(dev, "sega_role", "# mine\nsega_role", 1), nil, true, strings.Replace(dev, "sega_role", "# mine\nsega_role", 1),
			[]Change{{Kept, "dev", "dev", "not wanted any more, but a line in it is yours: # mine"}}},
		"a comment behind a value": {dev + "region = x # mine\n", nil, true, dev + "region = x # mine\n",
			[]Change{{Kept, "dev", "dev", "not wanted any more, but a line in it is yours: region = x # mine"}}},
		"no profile":             {"[services dev]\nsega_role = dev\n[dev]\nsega_role = dev\n", nil, true, "[services dev]\nsega_role = dev\n[dev]\nsega_role = dev\n", nil},
		"imported, still a role": {"[profile mine]\nsega_role = dev\nsega_imported = aws-okta\n", wantDev, true, "[profile mine]\ncredential_process = /bin/sega credential-process dev\nsega_role = dev\nsega_imported = aws-okta\n\n" + dev, []Change{{Added, "dev", "dev", ""}, {Changed, "mine", "dev", ""}}},
		"imported, no role": {"[profile mine]\nsega_role = old\nsega_imported = aws-okta\n", nil, true, "[profile mine]\nsega_role = old\nsega_imported = aws-okta\n",
			[]Change{{Kept, "mine", "old", "not wanted any more, but a line in it is yours: sega_imported = aws-okta"}}},
		"imported for another role": {"[profile dev]\nsega_role = old\nsega_imported = aws-okta\n", wantDev, true, "[profile dev]\nsega_role = old\nsega_imported = aws-okta\n",
			[]Change{{Refused, "dev", "dev", "the profile in line 1 was imported for the role old"}}},
		"a name that is none": {"", []Profile{{Name: "a b", Role: "dev"}, {Name: "ok", Role: "dev"}}, false, strings.Replace(dev, "[profile dev]", "[profile ok]", 1),
			[]Change{{Refused, "a b", "dev", CheckName("a b").Error()}, {Added, "ok", "dev", ""}}},
		"a role that is none": {"", []Profile{{Name: "x", Role: "x; rm -r /"}}, false, "", []Change{{Refused, "x", "x; rm -r /", `no command can name the role "x; rm -r /": only letters, digits and +=,.@_/:- pass unquoted`}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := Parse([]byte(tt.text))
			changes, err := Apply(f, program, tt.wanted, tt.prune)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Sound(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, string(f.Bytes())); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.changes, changes); tt.changes != nil && diff != "" {
				t.Error(diff)
			}
			again := Parse(f.Bytes())
			if _, err := Apply(again, program, tt.wanted, tt.prune); err != nil || string(again.Bytes()) != string(f.Bytes()) {
				t.Errorf("a second run changes it (%v):\n%s", err, again.Bytes())
			}
		})
	}
}

func TestApplyTwoOfOneName(t *testing.T) {
	if changes, err := Apply(Parse(nil), program, []Profile{{Name: "x", Role: "a"}, {Name: "x", Role: "b"}}, false); err == nil {
		t.Errorf("%v", changes)
	}
}

// TestSound: an edit that would change what other lines mean is refused, and the file stays.
func TestSound(t *testing.T) {
	text := "[default]\nregion = x\n[profile dev]\n    credential_process = x\n    sega_role = dev\n  [profile next]\n"
	path := write(t, t.TempDir(), "config", text)
	_, err := Edit(t.Context(), path, func(f *File) error {
		_, err := Apply(f, program, nil, true)
		return err
	})
	if got, readErr := os.ReadFile(path); err == nil || readErr != nil || string(got) != text {
		t.Errorf("%v, %v: %s", err, readErr, got)
	}
}

// FuzzApply: whatever stands in a file, an edit leaves every line that is not sega's, a second one changes
// nothing, and pruning all of it takes out no line that was there before.
func FuzzApply(f *testing.F) {
	for _, text := range samples {
		f.Add([]byte(text))
		f.Add([]byte(text + "\n" + dev))
		f.Add([]byte(dev + text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wanted := []Profile{{"dev", "dev", "eu"}, {"ops", "ops", ""}}
		file := Parse(data)
		strangers := theirs(file)
		if _, err := Apply(file, program, wanted, false); err != nil {
			t.Fatal(err)
		}
		if file.Sound() != nil {
			return // refused
		}
		if diff := cmp.Diff(strangers, theirs(file)); diff != "" {
			t.Errorf("lines of others: %s", diff)
		}
		text := file.Bytes()
		again := Parse(text)
		if _, err := Apply(again, program, wanted, false); err != nil || string(again.Bytes()) != string(text) {
			t.Errorf("a second run (%v) makes %q of %q", err, again.Bytes(), text)
		}
		if _, err := Apply(again, program, nil, true); err != nil {
			t.Fatal(err)
		}
		if again.Sound() != nil {
			return
		}
		if diff := cmp.Diff(strangers, theirs(again)); diff != "" {
			t.Errorf("pruned: %s", diff)
		}
		checkSteps(t, file, data)
		checkSteps(t, again, text)
	})
}

// theirs are the lines of a file that are not sega's: those before the sections, of other sections,
// and in sega's own what it does not write. Blank lines and the file's last end do not count.
func theirs(f *File) (out []string) {
	keep := func(l line) {
		if l.kind != blank {
			out = append(out, strings.TrimRight(l.text, "\r\n"))
		}
	}
	for _, l := range f.top {
		keep(l)
	}
	for _, s := range f.Sections {
		_, ours := s.Get(keyRole)
		for i, l := range s.lines {
			if ours && s.Profile() != "" && (i == 0 || l.content() == made || slices.Contains([]string{keyProcess, keyRole, keyRegion, keyDuration}, l.key()) && l.kind == property) {
				continue
			}
			keep(l)
		}
	}
	return out
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"dev", "dev-admin", "a/b", "a.b@c", "1234:role", "a%b", "A_b+c"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "default", "a b", "a]", "[a", `"a"`, "a'b", "a#b", "a;b", "a=b", "a,b", "ü", "a\nb", `a\b`, "a\x00"} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q passes", name)
		}
	}
}

// large is a file of about as many lines as asked for, every seventh section sega's.
func large(lines int) string {
	var b strings.Builder
	for i := 0; i*7 < lines; i++ {
		if i%7 == 0 {
			b.WriteString(strings.NewReplacer("profile dev", fmt.Sprintf("profile dev-%d", i), "process dev", fmt.Sprintf("process dev-%d", i), "role = dev", fmt.Sprintf("role = dev-%d", i)).Replace(dev) + "region = eu-west-1\noutput = json\n\n")
			continue
		}
		fmt.Fprintf(&b, "[profile p%d]\nrole_arn = arn:aws:iam::111111111111:role/p%d\nsource_profile = default\nregion = eu-west-1\n# a comment\n\n\n", i, i)
	}
	return b.String()
}

func BenchmarkApply(b *testing.B) {
	text := []byte(large(7000))
	var wanted []Profile
	for i := range 200 {
		wanted = append(wanted, Profile{Name: fmt.Sprintf("dev-%d", i*7), Role: fmt.Sprintf("dev-%d", i*7)})
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		f := Parse(text)
		if _, err := Apply(f, program, wanted, true); err != nil {
			b.Fatal(err)
		}
		f.Bytes()
	}
}
