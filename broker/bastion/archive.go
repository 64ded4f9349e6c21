package bastion

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
)

const (
	archiveFirst = 500 * time.Millisecond
	archiveMost  = 30 * time.Second
	// uploadWait is how long the report of a session's end waits for its recording: whoever reads of
	// the end at once should find the recording whole.
	uploadWait = 3 * time.Second
)

// uploader returns what copies a session's spool into the bucket.
func (b *Bastion) uploader(id string) (*bucket.Uploader, error) {
	return bucket.NewUploader(bucket.UploaderConfig{Store: b.cfg.Bucket, Spool: b.spool.path(id), SessionID: id,
		Interval: b.cfg.UploadEvery,
		OnError:  func(err error) { b.cfg.Log.Warn("recording not uploaded yet", "session", id, "error", err) }})
}

// upload copies what was recorded while the session lives. It is sealed for that, so that who
// follows the session waits for no seal. A seal that fails is found by whoever writes next.
func (s *session) upload() {
	up, err := s.b.uploader(s.hop.SessionID)
	if err == nil {
		err = up.Run(s.ctx, func() int64 {
			_ = s.rec.Seal()
			return s.rec.Head().Bytes
		})
	}
	if err != nil {
		s.b.cfg.Log.Error("recording is not being uploaded", "session", s.hop.SessionID, "error", err)
	}
}

// archive brings a closed recording into the bucket and removes its spool once that is done and the
// session's end is in the log. What does not come to that is left for the next start.
func (b *Bastion) archive(id string, end *queued, upload func(ctx context.Context, id string) error) {
	b.archives.Go(func() {
		if !b.uploadAll(id, upload) {
			return
		}
		select {
		case <-b.archiveCtx.Done():
			return
		case <-end.settled:
		}
		if end.refused != nil {
			return
		}
		if err := b.spool.remove(id); err != nil {
			b.cfg.Log.Error("spool not removed", "session", id, "error", err)
		}
	})
}

// uploadFirst tries once, for a while, before the end is reported. archive does what it does not.
func (b *Bastion) uploadFirst(id string) {
	ctx, cancel := context.WithTimeout(b.archiveCtx, uploadWait)
	defer cancel()
	if err := b.uploadOnce(ctx, id); err != nil {
		b.cfg.Log.Warn("recording not uploaded before the session's end is reported", "session", id, "error", err)
	}
}

// uploadAll repeats until the whole spool is in the bucket.
func (b *Bastion) uploadAll(id string, upload func(ctx context.Context, id string) error) bool {
	wait := archiveFirst
	for {
		err := upload(b.archiveCtx, id)
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

func (b *Bastion) uploadOnce(ctx context.Context, id string) error {
	info, err := b.spool.root.Stat(id + spoolSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil // there was no recording yet
	}
	if err != nil {
		return err
	}
	up, err := b.uploader(id)
	if err != nil {
		return err
	}
	return up.Upload(ctx, info.Size())
}

// setAsideSpool moves a spool that does not fit into quarantine, for people to look at.
func (b *Bastion) setAsideSpool(id string) {
	for _, name := range []string{id + spoolSuffix, id + metaSuffix} {
		err := os.Rename(filepath.Join(b.spool.dir, name), filepath.Join(b.quarantine, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			b.cfg.Log.Error("spool not moved to quarantine", "file", name, "error", err)
		}
	}
	b.cfg.Log.Error("spool set aside in quarantine", "session", id)
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
