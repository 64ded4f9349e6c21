package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sega/keychain/atomicfile"
)

// state is the state file.
type state struct {
	Keys   []storedKey `json:"keys"`
	Grants []grant     `json:"grants"`
}

// load reads the state file; one that is absent is empty.
func load(path string) (state, error) {
	var s state
	if path == "" {
		return s, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("provider: read the state file: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("provider: the state file %s is damaged, remove it", path)
	}
	return s, nil
}

// save writes the state file whole or not at all.
func (p *Provider) save() error {
	if p.cfg.StateFile == "" {
		return nil
	}
	p.grants.saving.Lock()
	defer p.grants.saving.Unlock()
	keys, err := p.keys.stored()
	if err != nil {
		return err
	}
	data, err := json.Marshal(state{Keys: keys, Grants: p.grants.stored()})
	if err != nil {
		return fmt.Errorf("provider: encode the state: %w", err)
	}
	if err := atomicfile.Replace(p.cfg.StateFile, data, 0o600); err != nil {
		return fmt.Errorf("provider: write the state file: %w", err)
	}
	return nil
}
