package broker

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sega/audit"
	"sega/broker/api"
)

// Bounds of what a bastion says of one operation on files.
const (
	maxFilePath   = 3 * 4096 // bytes: each of 4,096 may have become U+FFFD
	maxFileRuns   = 16
	maxFileCounts = 32
)

// fileKind reports whether a kind is one of those that tell of files, all of which a bastion may report.
func fileKind(kind string) bool { return strings.HasPrefix(kind, "sftp.") && audit.KnownKind(kind) }

// checkFileOperation holds a report's details against their form. No field beside it may be there:
// redaction and readers know these alone.
func checkFileOperation(raw json.RawMessage) error {
	var op api.FileOperation
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&op); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more follows the operation")
	}
	switch {
	case op.Protocol != api.ProtocolSFTP && op.Protocol != api.ProtocolSCP:
		return fmt.Errorf("unknown protocol %q", printable(op.Protocol, 16))
	case max(len(op.Path), len(op.To), len(op.Raw)) > maxFilePath, op.ToBytes != nil && len(op.ToBytes.Raw) > maxFilePath:
		return errors.New("a path is too long")
	case len(op.Flags) > 100, len(op.Extension) > 64, len(op.Counts) > maxFileCounts:
		return errors.New("more than an operation has")
	}
	return errors.Join(checkTransfer(op.Read), checkTransfer(op.Written))
}

func checkTransfer(t *api.FileTransfer) error {
	if t == nil {
		return nil
	}
	if len(t.Runs) == 0 || len(t.Runs) > maxFileRuns {
		return fmt.Errorf("a transfer has 1 to %d runs, not %d", maxFileRuns, len(t.Runs))
	}
	total := int64(0)
	for _, r := range t.Runs {
		if r.Bytes < 0 || !isSHA256(r.SHA256) {
			return errors.New("a run has a length and a digest")
		}
		total += r.Bytes
	}
	if t.Rest != nil {
		if t.Rest.Bytes < 0 || !isSHA256(t.Rest.SHA256) {
			return errors.New("a rest has a length and a digest")
		}
		total += t.Rest.Bytes
	}
	if total != t.Bytes {
		return fmt.Errorf("%d bytes went over, and the runs have %d", t.Bytes, total)
	}
	return nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && s == strings.ToLower(s)
}
