package policy

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed schema.cedarschema
var builtin []byte

// schemaFile is the schema's name in a folder of policies.
const schemaFile = "schema.cedarschema"

// maxFile bounds a file: the parser recurses, and what it reads must not exhaust the stack.
const maxFile = 256 << 10

// maxFaults bounds what is reported of one policy: the validator repeats a fault for each action.
const maxFaults = 4

// Set is a loaded, valid set of policies. It does not change; a nil Set denies everything.
type Set struct {
	schema *resolved.Schema
	rules  []*rule // by ID
	byID   map[cedar.PolicyID]*rule
	digest string
}

// Schema returns the built-in schema, the contract of the broker with its policies.
func Schema() []byte { return slices.Clone(builtin) }

// Digest returns the hex SHA-256 over the built-in schema and every file of the folder: for each,
// in order of name, "NAME LENGTH\n" and its bytes.
func (s *Set) Digest() string {
	if s == nil {
		return ""
	}
	return s.digest
}

// loader gathers what one Load finds.
type loader struct {
	fsys   fs.FS
	checks []*validate.Validator // every policy must pass each
	set    *Set
	where  map[string]string // where an ID was first seen
	sum    hash.Hash
	errs   []error
}

// Load reads the *.cedar files at the root of fsys. A schema.cedarschema beside them may restrict
// policies further; what the broker's built-in schema does not know is refused all the same. The
// error joins everything that is wrong, a line each as "file:line: what".
func Load(fsys fs.FS) (*Set, error) {
	l := &loader{fsys: fsys, set: &Set{byID: map[cedar.PolicyID]*rule{}}, where: map[string]string{}, sum: sha256.New()}
	resolved, err := parseSchema("built-in "+schemaFile, builtin)
	if err != nil {
		return nil, err
	}
	l.set.schema = resolved
	l.checks = append(l.checks, validate.New(resolved, validate.WithStrict()))
	l.add("built-in", builtin)
	names, err := policyFiles(fsys)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	for _, name := range names {
		l.file(name)
	}
	if len(l.errs) == 0 && len(l.set.rules) == 0 {
		l.errs = append(l.errs, errors.New("no policy in any *.cedar file: an empty set is refused, write a forbid to deny everything"))
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	slices.SortFunc(l.set.rules, func(a, b *rule) int { return strings.Compare(a.id, b.id) })
	l.set.digest = hex.EncodeToString(l.sum.Sum(nil))
	return l.set, nil
}

// policyFiles lists what to read at the root, the schema first. A policy in a subfolder is an
// error, for somebody believes it to be in force.
func policyFiles(fsys fs.FS) ([]string, error) {
	var names []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir():
			return nil
		case path.Ext(name) == ".cedar" && strings.Contains(name, "/"):
			return fmt.Errorf("%s lies in a subfolder: put all policies into one folder", name)
		case path.Ext(name) == ".cedar" || name == schemaFile:
			names = append(names, name)
		}
		return nil
	})
	slices.SortFunc(names, func(a, b string) int {
		if (a == schemaFile) != (b == schemaFile) {
			if a == schemaFile {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names, err
}

func (l *loader) file(name string) {
	data, err := readFile(l.fsys, name)
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("read policies: %w", err))
		return
	}
	l.add(name, data)
	if err := checkNesting(name, data); err != nil {
		l.errs = append(l.errs, err)
		return
	}
	if name == schemaFile {
		own, err := parseSchema(name, data)
		if err != nil {
			l.errs = append(l.errs, err)
			return
		}
		l.checks = append(l.checks, validate.New(own, validate.WithStrict()))
		return
	}
	policies, err := cedar.NewPolicyListFromBytes(name, data)
	if err != nil {
		l.errs = append(l.errs, syntaxError(name, err))
		return
	}
	for _, p := range policies {
		l.policy(p)
	}
}

func (l *loader) add(name string, data []byte) {
	fmt.Fprintf(l.sum, "%s %d\n", name, len(data))
	l.sum.Write(data)
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d KiB: split it", name, maxFile>>10)
	}
	return data, nil
}

func parseSchema(name string, data []byte) (*resolved.Schema, error) {
	var s schema.Schema
	s.SetFilename(parserInput)
	if err := s.UnmarshalCedar(data); err != nil {
		return nil, syntaxError(name, err)
	}
	r, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// policy takes one policy in, or notes all that is wrong with it.
func (l *loader) policy(p *cedar.Policy) {
	where := fmt.Sprintf("%s:%d", p.Position().Filename, p.Position().Line)
	rule, err := newRule(p)
	errs := []error{err}
	for _, v := range l.checks {
		errs = append(errs, v.Policy("", (*ast.Policy)(p.AST())))
	}
	if first, dup := l.where[rule.id]; dup && rule.id != "" {
		errs = append(errs, fmt.Errorf("@id(%q) is already that of %s", rule.id, first))
	}
	l.where[rule.id] = where
	faults := lines(errors.Join(errs...))
	for _, fault := range faults[:min(len(faults), maxFaults)] {
		l.errs = append(l.errs, fmt.Errorf("%s: %s", where, fault))
	}
	l.set.rules = append(l.set.rules, rule)
	l.set.byID[cedar.PolicyID(rule.id)] = rule
}

// lines returns the distinct lines of joined errors: two schemas find the same fault twice.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	all := strings.Split(err.Error(), "\n")
	slices.Sort(all)
	return slices.Compact(all)
}
