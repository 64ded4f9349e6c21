package policy

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Engine holds the set in force and replaces it as a whole. It is safe for concurrent use.
type Engine struct {
	load    func() (*Set, error)
	reload  sync.Mutex
	current atomic.Pointer[inForce]
}

// inForce is replaced as one, so that set and error always belong together.
type inForce struct {
	set *Set  // the last good one; nil until there was one
	err error // of the last load; nil after a good one
}

// NewEngine loads once and returns the engine even if that failed: it then denies everything, and
// Err says why, until a Reload succeeds.
func NewEngine(load func() (*Set, error)) *Engine {
	e := &Engine{load: load}
	e.current.Store(&inForce{err: errors.New("no policy is loaded yet")})
	_ = e.Reload() // kept for Err
	return e
}

// Reload loads anew. After an error the last good set stays in force and Err returns that error,
// until a good load.
func (e *Engine) Reload() error {
	return e.ReloadIf(nil)
}

// ReloadIf is Reload, but for asking before it puts a good set in force: where agree returns an
// error, what is in force stays, and that error is the answer. A nil agree agrees.
func (e *Engine) ReloadIf(agree func(*Set) error) error {
	e.reload.Lock()
	defer e.reload.Unlock()
	set, err := e.load()
	if err == nil && set == nil {
		err = errors.New("the load gave no set")
	}
	if err != nil {
		err = fmt.Errorf("load policy: %w", err)
		set = e.current.Load().set
	} else if agree != nil {
		if err := agree(set); err != nil {
			return err
		}
	}
	e.current.Store(&inForce{set: set, err: err})
	return err
}

// Err returns the error of the last load, for /readyz.
func (e *Engine) Err() error { return e.current.Load().err }

// Set returns the set in force, nil if there never was a good one. A caller with several related
// questions asks one Set.
func (e *Engine) Set() *Set { return e.current.Load().set }

// Decide answers by the set in force.
func (e *Engine) Decide(r Request) Decision { return e.Set().Decide(r) }
