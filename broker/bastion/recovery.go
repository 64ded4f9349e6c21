package bastion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sega/audit"
	"sega/audit/recording"
	"sega/audit/recording/bucket"
	"sega/broker/api"
	"sega/keychain/atomicfile"
)

// sessions lists the IDs of all sessions that have a file in the spool, but for those that have a journal alone.
func (s *spool) sessions() ([]string, error) { return s.named(spoolSuffix, metaSuffix) }

// journals lists the IDs of all sessions that have a journal.
func (s *spool) journals() ([]string, error) { return s.named(operationsSuffix) }

// named lists the IDs of all sessions that have a file of one of the suffixes.
func (s *spool) named(suffixes ...string) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var ids []string
	for _, e := range entries {
		for _, suffix := range suffixes {
			if id, has := strings.CutSuffix(e.Name(), suffix); has && sessionID.MatchString(id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// recoverAll takes care of sessions that an earlier process could not finish: it was killed, or
// stopped before bucket and broker had everything. Journals that it could not read or remove come first:
// what they say is repeated, and no session of theirs is recovered by that.
func (b *Bastion) recoverAll(ctx context.Context) {
	for _, id := range b.strays {
		b.recoverOperations(id)
	}
	for _, id := range b.leftovers {
		if ctx.Err() != nil {
			return
		}
		b.recoverSession(id)
	}
}

// recoverSession repairs one spool, reports its end under the ID that was chosen when the session
// began, so that a second report is none, and archives it.
func (b *Bastion) recoverSession(id string) {
	meta, err := b.recoverMeta(id)
	if err != nil {
		b.cfg.Log.Error("session left over without its description", "session", id, "error", err)
	}
	b.recoverOperations(id)
	end, cut, err := b.recoverSpool(id, false)
	reason := "the bastion was interrupted"
	upload := b.uploadOnce
	switch {
	case errors.Is(err, errUncut):
		b.cfg.Log.Error("spool is not uploaded yet", "session", id, "bytes", cut, "error", err)
		upload, err = b.cutAndUpload, nil
	case err != nil:
		b.cfg.Log.Error("spool is corrupt", "session", id, "error", err)
		reason = "the bastion was interrupted; the recording is corrupt and was set aside"
		b.setAsideSpool(id)
	case !b.uploadFirst(id, upload):
		reason, err = "the bastion was interrupted"+takenReason, bucket.ErrConflict
		end = elsewhere(end)
		defer b.setAsideSpool(id) // once the end is queued
	case end.Verdict == recording.StatusComplete, end.Verdict == recording.StatusOmitted:
		reason = "the bastion was interrupted after the recording was closed"
	}
	delivery := b.reports.find(meta.EndID)
	if delivery == nil {
		delivery = b.reports.put(api.Report{ID: meta.EndID, Time: b.cfg.Now().UTC(), Kind: kindEnd, Outcome: string(audit.Unknown),
			SessionID: id, Reason: reason, Source: meta.Source, Details: details(endDetail{Recording: &end, Cut: cut})})
	}
	if err == nil {
		b.archive(id, delivery, upload)
	}
}

// recoverMeta reads what is known of a session; where that is unreadable a new description takes
// its place, so that later starts report the same end.
func (b *Bastion) recoverMeta(id string) (spoolMeta, error) {
	meta, err := b.spool.meta(id)
	if err == nil {
		return meta, nil
	}
	meta = spoolMeta{SessionID: id, EndID: newEventID()}
	return meta, errors.Join(err, atomicfile.Replace(filepath.Join(b.spool.dir, id+metaSuffix), details(meta), 0o600))
}

// errUncut means that a spool is a recording with more behind it, for which there is no room elsewhere.
var errUncut = errors.New("what follows the last good record cannot be set aside")

// cutAndUpload is uploadOnce for a spool that recoverSpool could not cut.
func (b *Bastion) cutAndUpload(ctx context.Context, id string) error {
	if _, _, err := b.recoverSpool(id, false); err != nil {
		return err
	}
	return b.uploadOnce(ctx, id)
}

// recoverSpool judges a spool and cuts off what does not belong to the recording any more: cut
// bytes, which go to quarantine first, so that both together are the spool as it was. An error means
// that the spool is no recording or cannot be read, or errUncut.
//
// Of a session of this process nothing is behind a record that failed to be written, and was not
// forwarded: there the recording itself counts for more than the torn end. After a loss of power
// what was forwarded may stand behind a hole.
func (b *Bastion) recoverSpool(id string, living bool) (end recording.End, cut int64, err error) {
	f, err := b.spool.root.OpenFile(id+spoolSuffix, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return recording.End{Verdict: recording.StatusMissing}, 0, nil
	}
	if err != nil {
		return recording.End{Verdict: recording.StatusMissing}, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return recording.End{Verdict: recording.StatusMissing}, 0, err
	}
	end, keep, err := recording.Recover(f)
	if errors.Is(err, recording.ErrNoHeader) && info.Size() == 0 {
		return end, 0, nil // killed between the file and its header
	}
	if cut = info.Size() - keep; err != nil || cut == 0 {
		return end, 0, err
	}
	if err := b.keepTail(id, f, keep); err != nil && !living {
		return end, cut, fmt.Errorf("%w: %w", errUncut, err)
	} else if err != nil {
		b.cfg.Log.Error("torn end not kept", "session", id, "bytes", cut, "error", err)
	}
	return end, cut, errors.Join(f.Truncate(keep), f.Sync())
}

// keepTail copies what will be cut off to quarantine: a torn record of a killed process most
// likely, but that is for people to judge.
func (b *Bastion) keepTail(id string, f *os.File, from int64) error {
	out, err := os.OpenFile(filepath.Join(b.quarantine, id+".tail"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Seek(from, io.SeekStart); err == nil {
		_, err = io.Copy(out, f)
	}
	if err = errors.Join(err, out.Sync(), out.Close(), atomicfile.SyncDir(b.quarantine)); err != nil {
		err = errors.Join(err, os.Remove(out.Name()))
	}
	return err
}
