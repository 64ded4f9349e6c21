package bastion

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
	"sega/keychain/atomicfile"
)

const (
	archiveFirst = 500 * time.Millisecond
	archiveMost  = 30 * time.Second
	// uploadWait is how long the report of a session's end waits for its recording: whoever reads of
	// the end at once should find the recording whole.
	uploadWait = 3 * time.Second
)

// uploader returns what copies a session's spool into the bucket. failed is told of each upload that
// will be repeated.
func (b *Bastion) uploader(id string, failed func()) (*bucket.Uploader, error) {
	return bucket.NewUploader(bucket.UploaderConfig{Store: b.cfg.Bucket, Spool: b.spool.path(id), SessionID: id,
		Interval: b.cfg.UploadEvery,
		OnError: func(err error) {
			b.cfg.Log.Warn("recording not uploaded yet", "session", id, "error", err)
			failed()
		}})
}

// upload copies what was recorded while the session lives. It is sealed for that, so that who
// follows the session waits for no seal. A seal that fails is found by whoever writes next.
func (s *session) upload() {
	up, err := s.b.uploader(s.hop.SessionID, s.uploadFailed)
	if err == nil {
		s.up = up
		err = up.Run(s.ctx, func() int64 {
			s.uploads()
			_ = s.rec.Seal()
			return s.rec.Head().Bytes
		})
	}
	if err != nil {
		s.b.cfg.Log.Error("recording is not being uploaded", "session", s.hop.SessionID, "error", err)
	}
}

// uploadRest copies what upload has left. It knows what that has put, and need not read it back.
func (s *session) uploadRest(ctx context.Context, id string) error {
	if s.up == nil {
		return s.b.uploadOnce(ctx, id)
	}
	return s.b.uploadBy(ctx, s.up, id)
}

// archive brings a closed recording into the bucket and removes its spool once that is done, the
// session's end is in the log, and what the bucket holds is once more the spool, byte by byte. What
// does not come to that is left for the next start.
func (b *Bastion) archive(id string, end *queued, upload func(ctx context.Context, id string) error) {
	b.archives.Go(func() {
		if !b.persist(id, upload) {
			return
		}
		select {
		case <-b.awaitCtx.Done():
			return
		case <-end.settled:
		}
		if end.refused != nil || !b.persist(id, b.compare) {
			return
		}
		if err := b.spool.remove(id); err != nil {
			b.cfg.Log.Error("spool not removed", "session", id, "error", err)
		}
	})
}

// uploadFirst tries once, for a while, before the end is reported. archive does what it does not. It
// reports whether the bucket may yet hold the recording: not where it has other bytes in its place.
func (b *Bastion) uploadFirst(id string, upload func(ctx context.Context, id string) error) bool {
	ctx, cancel := context.WithTimeout(b.archiveCtx, uploadWait)
	defer cancel()
	err := upload(ctx, id)
	if err != nil {
		b.cfg.Log.Warn("recording not uploaded before the session's end is reported", "session", id, "error", err)
	}
	return !errors.Is(err, bucket.ErrConflict)
}

// persist repeats a step until it is done. Where the bucket holds other bytes, it sets the spool aside.
func (b *Bastion) persist(id string, step func(ctx context.Context, id string) error) bool {
	wait := archiveFirst
	for {
		err := step(b.archiveCtx, id)
		if err == nil {
			return true
		}
		if b.archiveCtx.Err() != nil {
			return false
		}
		b.cfg.Log.Error("recording not uploaded", "session", id, "error", err)
		if errors.Is(err, bucket.ErrConflict) {
			b.setAsideSpool(id)
			return false
		}
		select {
		case <-b.archiveCtx.Done():
			return false
		case <-time.After(wait):
		}
		wait = min(2*wait, archiveMost)
	}
}

// compare holds what the bucket has against a spool that is about to go.
func (b *Bastion) compare(ctx context.Context, id string) error {
	return b.ofSpool(id, func(int64) error {
		up, err := b.uploader(id, func() {})
		if err != nil {
			return err
		}
		return up.Compare(ctx)
	})
}

// uploadOnce copies a spool of which it knows nothing.
func (b *Bastion) uploadOnce(ctx context.Context, id string) error {
	up, err := b.uploader(id, func() {})
	if err != nil {
		return err
	}
	return b.uploadBy(ctx, up, id)
}

func (b *Bastion) uploadBy(ctx context.Context, up *bucket.Uploader, id string) error {
	return b.ofSpool(id, func(size int64) error { return up.Upload(ctx, size) })
}

// ofSpool does something with the size of a spool, or nothing where there was no recording yet.
func (b *Bastion) ofSpool(id string, do func(size int64) error) error {
	info, err := b.spool.root.Stat(id + spoolSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return do(info.Size())
}

// setAsideSpool moves a spool that does not fit into quarantine, for people to look at. It may be the
// only true copy: one that lies there already is not replaced, and the spool stays where it is.
func (b *Bastion) setAsideSpool(id string) {
	if _, err := os.Lstat(filepath.Join(b.quarantine, id+spoolSuffix)); !errors.Is(err, os.ErrNotExist) {
		b.cfg.Log.Error("spool not moved to quarantine: there is one of that name", "session", id, "error", err)
		return
	}
	for _, name := range []string{id + spoolSuffix, id + metaSuffix} {
		err := os.Rename(filepath.Join(b.spool.dir, name), filepath.Join(b.quarantine, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			b.cfg.Log.Error("spool not moved to quarantine", "file", name, "error", err)
		}
	}
	b.quotas.forget(id)
	b.cfg.Log.Error("spool set aside in quarantine: look whether it is the only true copy of the recording", "session", id,
		"file", filepath.Join(b.quarantine, id+spoolSuffix), "error", atomicfile.SyncDir(b.quarantine))
}

// salvage recovers a spool that was not closed properly. One that is no recording any more is set
// aside, and ok is false.
func (b *Bastion) salvage(id string) (end recording.End, ok bool) {
	end, _, err := b.recoverSpool(id, true)
	if err != nil {
		b.cfg.Log.Error("spool not recovered", "session", id, "error", err)
		b.setAsideSpool(id)
	}
	return end, err == nil
}
