//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// TestManual builds what writes the manual, and holds the pages against the commands, the documents and
// a checker of manual pages.
func TestManual(t *testing.T) {
	t.Parallel()
	devtest.Need(t, "mandoc")
	p := somebody(t)
	dir := filepath.Join(t.TempDir(), "man")
	c := exec.Command("go", "run", "-tags", "man", "sega/cmd/sega", "man", dir)
	c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	walk(t, p, []string{"sega"}, func(argv []string, help string, _ bool) {
		name := filepath.Join(dir, strings.Join(argv, "-")+".1")
		text := plainManual(read(t, name))
		for _, want := range []string{"2023-11-14", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS", ".SH EXAMPLES", ".SH EXIT STATUS", ".SH ENVIRONMENT", ".SH FILES", ".SH SEE ALSO"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s", name, want)
			}
		}
		for _, flag := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(help, -1) {
			if flag[1] != "--version" && !strings.Contains(text, flag[1]) {
				t.Errorf("%s does not say what %s does", name, flag[1])
			}
		}
		pages = without(pages, name)
	})
	if len(pages) > 0 {
		t.Errorf("these are of no command: %q", pages)
	}
	all, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, all...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}

	// What all pages say is what the documents say.
	text := plainManual(read(t, filepath.Join(dir, "sega.1")))
	_, codes, _ := strings.Cut(read(t, "../../../../docs/errors.md"), "\n## Exit codes\n")
	rows := regexp.MustCompile(`(?m)^\| (\d) \| (.*) \|$`).FindAllStringSubmatch(codes, -1)
	if len(rows) != 8 {
		t.Errorf("docs/errors.md has %d exit codes", len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(text, "\n\\fB"+row[1]+"\\fR\n"+strings.ReplaceAll(row[2], "`", "")+"\n") {
			t.Errorf("the manual does not say of exit code %s: %s", row[1], row[2])
		}
	}
	_, environment, _ := strings.Cut(read(t, "../../../../README.md"), "\n**Environment**\n")
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(environment, -1) {
		if !strings.Contains(text, "\\fB"+row[1]+"\\fR\n") {
			t.Errorf("the manual does not say what %s is", row[1])
		}
	}
}

// plainManual undoes the escapes of a page, but for its fonts.
func plainManual(text string) string {
	return strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(ti`, "~").Replace(text)
}

func without(list []string, one string) (out []string) {
	for _, v := range list {
		if v != one {
			out = append(out, v)
		}
	}
	return out
}
