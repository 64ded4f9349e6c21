package bastion

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"sega/keychain/atomicfile"
)

const (
	spoolSuffix = ".rec"
	metaSuffix  = ".json"
)

// sessionID is what a spool may be called: the name comes from the broker, the file is ours.
var sessionID = regexp.MustCompile(`^ssh_[a-z0-9]{8,60}$`)

// spoolMeta stands beside a spool, so that a bastion that was killed can report the session's end.
// EndID is chosen before the session starts: however often its end is reported, it is one event.
type spoolMeta struct {
	SessionID string    `json:"session_id"`
	EndID     string    `json:"end_id"`
	Source    string    `json:"source"`
	Started   time.Time `json:"started"`
	Person    owner     `json:"person,omitzero"`
}

// SpoolFile is what a recording is written to. Whoever replaces it through Config.Spool must make
// Write fail where bytes are lost.
type SpoolFile interface {
	io.Writer
	Sync() error
	Close() error
}

// spool holds recordings until they are in the bucket and their end is in the log.
type spool struct {
	dir  string
	root *os.Root
	wrap func(SpoolFile) SpoolFile // for tests that make disks fail; nil otherwise

	removed func(id string) // is told of each session whose files have gone
}

func openSpool(dir string) (*spool, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &spool{dir: dir, root: root}, nil
}

func (s *spool) close() error { return s.root.Close() }

func (s *spool) path(id string) string { return filepath.Join(s.dir, id+spoolSuffix) }

// create makes the files of a session, which must be new. The names are on disk when it returns.
func (s *spool) create(m spoolMeta) (SpoolFile, error) {
	if !sessionID.MatchString(m.SessionID) {
		return nil, fmt.Errorf("the broker gave a session ID that is none: %q", clip(m.SessionID))
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if err := s.writeNew(m.SessionID+metaSuffix, raw); err != nil {
		if !errors.Is(err, os.ErrExist) {
			err = errors.Join(err, s.root.Remove(m.SessionID+metaSuffix))
		}
		return nil, fmt.Errorf("spool: %w", err)
	}
	f, err := s.root.OpenFile(m.SessionID+spoolSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", errors.Join(err, s.root.Remove(m.SessionID+metaSuffix)))
	}
	if err := atomicfile.SyncDir(s.dir); err != nil {
		return nil, fmt.Errorf("spool: %w", errors.Join(err, f.Close(), s.remove(m.SessionID)))
	}
	file := roomy(f)
	if s.wrap != nil {
		file = s.wrap(file)
	}
	return file, nil
}

func (s *spool) writeNew(name string, data []byte) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// remove deletes a session's files, the recording first: what is left without one is no recording.
func (s *spool) remove(id string) error {
	if err := s.root.Remove(id + spoolSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.root.Remove(id + metaSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.removed != nil {
		s.removed(id)
	}
	return nil
}

func (s *spool) meta(id string) (spoolMeta, error) {
	var m spoolMeta
	raw, err := s.root.ReadFile(id + metaSuffix)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, err
	}
	if m.SessionID != id || m.EndID == "" {
		return m, fmt.Errorf("spool: %s%s belongs to another session", id, metaSuffix)
	}
	return m, nil
}
