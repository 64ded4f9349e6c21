// Package docs_test holds the documents against the code: what they name must exist.
package docs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/config"
)

const root = ".." // of the repository

// documents returns the texts of README.md and of every page below docs, by path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no document fits %s: %v", pattern, err)
		}
		for _, path := range paths {
			docs[strings.TrimPrefix(path, root+"/")] = read(t, path)
		}
	}
	return docs
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func document(t *testing.T, path string) string { return read(t, filepath.Join(root, path)) }

var (
	inline = regexp.MustCompile("`([^`\n]+)`")
	fence  = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```")
	plain  = regexp.MustCompile(`^[\w./-]+$`)
)

// quoted returns what stands in single backticks outside of fenced blocks.
func quoted(text string) (out []string) {
	for _, m := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		out = append(out, m[1])
	}
	return out
}

// TestPathsExist takes everything in backticks that begins with a name of the repository's root.
func TestPathsExist(t *testing.T) {
	top := map[string]bool{}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		top[e.Name()] = true
	}
	found := 0
	for doc, text := range documents(t) {
		for _, path := range quoted(text) {
			first, _, deeper := strings.Cut(path, "/")
			if !plain.MatchString(path) || !top[first] && !(strings.HasSuffix(path, ".go") && deeper) {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(path))); err != nil {
				t.Errorf("%s names `%s`, which does not exist", doc, path)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d paths were found in the documents: the search is broken", found)
	}
}

// TestPackagesAreNamed: who looks for the owner of something finds every package in the architecture's tables.
func TestPackagesAreNamed(t *testing.T) {
	named := quoted(document(t, "docs/architecture.md"))
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" {
			return fs.SkipDir
		}
		if files, _ := filepath.Glob(filepath.Join(path, "*.go")); len(files) == 0 {
			return nil
		}
		if name := strings.TrimPrefix(path, root+"/"); !slices.Contains(named, name) {
			t.Errorf("docs/architecture.md does not say what `%s` owns", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTestsExist: a claim that a test shows something needs the test.
func TestTestsExist(t *testing.T) {
	defined := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range function.FindAllStringSubmatch(read(t, path), -1) {
			defined[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for doc, text := range documents(t) {
		for _, name := range quoted(text) {
			if !strings.HasPrefix(name, "Test") {
				continue
			}
			named++
			if !defined[name] {
				t.Errorf("%s names the test %s, which does not exist: name the one that shows it now", doc, name)
			}
		}
	}
	if named < 40 {
		t.Errorf("only %d tests were found in the documents: the search is broken", named)
	}
}

// firstCells returns the backticked words of the first column of a document's tables.
func firstCells(text string) (out []string) {
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || strings.TrimSpace(cells[0]) != "" {
			continue
		}
		for _, m := range inline.FindAllStringSubmatch(cells[1], -1) {
			out = append(out, m[1])
		}
	}
	return out
}

func TestKindsOfEvents(t *testing.T) {
	documented := map[string]bool{}
	for _, cell := range firstCells(document(t, "docs/audit-format.md")) {
		documented[cell] = true
	}
	for _, kind := range audit.Kinds() {
		if !documented[kind] {
			t.Errorf("docs/audit-format.md does not list the kind %s", kind)
		}
	}
	shaped := regexp.MustCompile(`^[a-z]+\.[a-z]+$`)
	for cell := range documented {
		if shaped.MatchString(cell) && !audit.KnownKind(cell) {
			t.Errorf("docs/audit-format.md lists %s, which is no kind", cell)
		}
	}
	for _, column := range audit.ColumnNames() {
		if !regexp.MustCompile(`[` + "`" + ` ]` + column + `[` + "`" + ` ]`).MatchString(document(t, "docs/audit-format.md")) {
			t.Errorf("docs/audit-format.md does not name the column %s", column)
		}
	}
}

// kindsOfErrors reads the constants of broker/api, so that none can be added without a line.
func kindsOfErrors(t *testing.T) (kinds []string) {
	for _, m := range regexp.MustCompile(`(?m)^\tKind\w+ +(?:Kind )?= "(\w+)"`).FindAllStringSubmatch(document(t, "broker/api/errors.go"), -1) {
		kinds = append(kinds, m[1])
	}
	if len(kinds) < 17 {
		t.Fatalf("only %d kinds were found in broker/api/errors.go: the search is broken", len(kinds))
	}
	return kinds
}

func TestKindsOfErrors(t *testing.T) {
	kinds := kindsOfErrors(t)
	rows := map[string][]string{}
	wire, local, found := strings.Cut(document(t, "docs/errors.md"), "\n## On this machine\n") // that section: TestKindsAreDocumented
	if !found || local == "" {
		t.Fatal("docs/errors.md has no section about this machine")
	}
	for line := range strings.Lines(wire) {
		if cells := strings.Split(line, "|"); len(cells) > 4 && strings.HasPrefix(cells[1], " `") {
			rows[strings.Trim(cells[1], " `")] = cells
		}
	}
	for _, kind := range kinds {
		row, ok := rows[kind]
		if !ok {
			t.Errorf("docs/errors.md does not list the kind %s", kind)
			continue
		}
		if got, want := strings.TrimSpace(row[2]), api.Kind(kind).Status(); got != itoa(want) {
			t.Errorf("docs/errors.md gives %s the status %s, it is %d", kind, got, want)
		}
	}
	for kind := range rows {
		if !slices.Contains(kinds, kind) {
			t.Errorf("docs/errors.md lists %s, which is no kind", kind)
		}
	}
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// TestConfigurationExamples reads the examples of docs/operations.md as the servers would, and asks
// that every key is in them.
func TestConfigurationExamples(t *testing.T) {
	text := document(t, "docs/operations.md")
	for _, tt := range []struct {
		name string
		into any
	}{{"broker.yaml", &config.Broker{}}, {"bastion.yaml", &config.BastionServer{}}, {"indexer.yaml", &config.IndexerServer{}}} {
		_, after, found := strings.Cut(text, "\n## "+tt.name+"\n")
		block := fence.FindStringSubmatch(after)
		if !found || block == nil || block[1] != "yaml" {
			t.Fatalf("docs/operations.md has no example of %s", tt.name)
		}
		if err := config.Parse([]byte(block[2]), tt.into); err != nil {
			t.Errorf("the example of %s is refused: %v", tt.name, err)
		}
		for _, key := range yamlKeys(reflect.TypeOf(tt.into).Elem()) {
			if !regexp.MustCompile(`(?m)(^|[ \-#{])` + key + `:`).MatchString(block[2]) {
				t.Errorf("the example of %s does not show the key %s", tt.name, key)
			}
		}
	}
}

// yamlKeys returns the keys of a configuration type and of everything in it.
func yamlKeys(v reflect.Type) (keys []string) {
	for v.Kind() == reflect.Slice || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Field(i).Tag.Get("yaml"), ",")
		keys = append(append(keys, name), yamlKeys(v.Field(i).Type)...)
	}
	return keys
}

// build compiles both programs once.
var build = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "sega-docs-"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/sega", "./cmd/segad")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return dir, nil
})

// shown is a command line of a document.
type shown struct{ doc, line string }

// commandLines returns the lines of sh blocks that run one of our programs.
func commandLines(t *testing.T) (out []shown) {
	for doc, text := range documents(t) {
		for _, block := range fence.FindAllStringSubmatch(text, -1) {
			if block[1] != "sh" {
				continue
			}
			for line := range strings.Lines(block[2]) {
				line = strings.TrimSpace(line)
				if m := regexp.MustCompile(`^eval "\$\((.*)\)"$`).FindStringSubmatch(line); m != nil {
					line = m[1]
				}
				if strings.HasPrefix(line, "sega ") || strings.HasPrefix(line, "segad ") {
					out = append(out, shown{doc, line})
				}
			}
		}
	}
	return out
}

// TestCommandsExist asks each program for the help of each command line that a document shows.
func TestCommandsExist(t *testing.T) {
	dir, err := build()
	defer os.RemoveAll(dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := commandLines(t)
	if len(lines) < 20 {
		t.Errorf("only %d command lines were found in the documents: the search is broken", len(lines))
	}
	help := map[string]string{}
	for _, s := range lines {
		line, _, _ := strings.Cut(s.line, " -- ")
		words := strings.Fields(line)
		path := words[:1]
		text := helpOf(t, dir, path, help)
		for _, word := range words[1:] {
			if !strings.Contains(text, " [command]\n") || strings.HasPrefix(word, "-") {
				break // an argument
			}
			if !strings.Contains(text, "\n  "+word+" ") {
				t.Errorf("%s shows %q, but %s has no command %q", s.doc, s.line, strings.Join(path, " "), word)
				break
			}
			path = append(slices.Clone(path), word)
			text = helpOf(t, dir, path, help)
		}
		if strings.Contains(text, " [command]\n") && !strings.Contains(text, "\n  "+strings.Join(path, " ")+" [flags]\n") {
			t.Errorf("%s shows %q, which does nothing", s.doc, s.line)
		}
		for _, word := range words {
			if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && !strings.Contains(text, flag+" ") {
				t.Errorf("%s shows %q, but the command has no %s", s.doc, s.line, flag)
			}
		}
	}
}

// helpOf returns what a command prints for --help.
func helpOf(t *testing.T, dir string, path []string, known map[string]string) string {
	key := strings.Join(path, " ")
	if text, ok := known[key]; ok {
		return text
	}
	cmd := exec.Command(filepath.Join(dir, path[0]), append(slices.Clone(path[1:]), "--help")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s --help: %v\n%s", key, err, out)
	}
	known[key] = string(out)
	return known[key]
}
