package policy

import (
	"errors"
	"sync"
	"testing"
	"testing/fstest"
)

// source is a folder that a test edits.
type source struct {
	mu   sync.Mutex
	fsys fstest.MapFS
}

func (s *source) put(files ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fsys = folder(files...)
}

func (s *source) load() (*Set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Load(s.fsys)
}

func TestEngineKeepsTheLastGoodSet(t *testing.T) {
	var src source
	src.put("a.cedar", everything)
	e := NewEngine(src.load)
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	good := e.Set().Digest()
	for name, files := range map[string][]string{
		"unparsable":    {"a.cedar", "permit ("},
		"empty folder":  nil,
		"without ID":    {"a.cedar", permitAll + ";"},
		"half of it":    {"a.cedar", everything, "b.cedar", "forbid"},
		"schema broken": {"a.cedar", everything, "schema.cedarschema", "{"},
	} {
		t.Run(name, func(t *testing.T) {
			src.put(files...)
			if err := e.Reload(); err == nil || e.Err() == nil {
				t.Fatalf("reload: %v, Err: %v", err, e.Err())
			}
			if d := e.Decide(ask()); !d.Allow || d.Digest != good {
				t.Errorf("the last good set is not in force: %+v", d)
			}
		})
	}
	src.put("a.cedar", `@id("none") forbid (principal, action, resource);`)
	if err := e.Reload(); err != nil || e.Err() != nil {
		t.Fatalf("reload: %v, Err: %v", err, e.Err())
	}
	if d := e.Decide(ask()); d.Allow || d.Digest == good {
		t.Errorf("the new set is not in force: %+v", d)
	}
}

func TestEngineWithoutAGoodSetDenies(t *testing.T) {
	var src source
	for name, load := range map[string]func() (*Set, error){
		"unparsable": src.load,
		"failing":    func() (*Set, error) { return nil, errors.New("disk on fire") },
		"set and error": func() (*Set, error) {
			s, err := Load(folder("a.cedar", everything))
			return s, errors.Join(err, errors.New("but no"))
		},
		"neither": func() (*Set, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			src.put("a.cedar", "permit (")
			e := NewEngine(load)
			if e.Err() == nil || e.Set() != nil {
				t.Errorf("Err %v, Set %v", e.Err(), e.Set())
			}
			if d := e.Decide(ask()); d.Allow || d.Cause != CauseNoPolicy || d.Reason == "" {
				t.Errorf("%+v", d)
			}
		})
	}
	src.put("a.cedar", "permit (")
	e := NewEngine(src.load)
	src.put("a.cedar", everything)
	if err := e.Reload(); err != nil || e.Err() != nil || !e.Decide(ask()).Allow {
		t.Errorf("after a good load: %v, %v", err, e.Err())
	}
}

// Under -race: deciders see whole sets while reloads go on. Whichever is in force forbids.
func TestEngineReloadsWhileDeciding(t *testing.T) {
	texts := []string{
		`@id("a") forbid (principal, action, resource);` + everything,
		`@id("b") forbid (principal, action, resource);`,
		"permit (",
	}
	var src source
	src.put("a.cedar", texts[0])
	e := NewEngine(src.load)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				d := e.Decide(ask())
				if d.Allow || d.Cause != CauseForbid || len(d.PolicyIDs) != 1 {
					t.Errorf("%+v", d)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := range 60 {
				src.put("a.cedar", texts[i%len(texts)])
				_ = e.Reload() // a third of them fails, as it should
				_ = e.Err()
			}
		})
	}
	wg.Wait()
}
