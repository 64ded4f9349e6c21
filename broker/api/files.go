package api

// Protocols of a FileOperation.
const (
	ProtocolSFTP = "sftp"
	ProtocolSCP  = "scp" // the old one, of `scp -O`
)

// FileOperation is the details of the events sftp.*: what was done to files of a host through one
// channel, as the bastion read it off the protocol. Paths are as the person's program sent them, in
// UTF-8; a path that is not is there again as bytes.
type FileOperation struct {
	Channel  uint32 `json:"channel"` // its number in the recording
	Number   uint64 `json:"number"`  // in the channel, in the order in which operations began
	Protocol string `json:"protocol"`

	Path    string    `json:"path,omitempty"`
	Raw     []byte    `json:"raw,omitempty"` // the path again, where it is not UTF-8
	To      string    `json:"to,omitempty"`  // of rename and copy the new path; of symlink and link what it leads to
	ToBytes *RawBytes `json:"to_bytes,omitempty"`
	Cut     bool      `json:"cut,omitempty"` // only the first 4 KiB of a path are here

	Flags      string              `json:"flags,omitempty"` // of an open, like "write,create,truncate"
	Attributes *FileAttributes     `json:"attributes,omitempty"`
	Read       *FileTransfer       `json:"read,omitempty"`    // what went to the person
	Written    *FileTransfer       `json:"written,omitempty"` // what went to the host
	Failed     int64               `json:"failed,omitempty"`  // requests of a read or a write that the host answered with an error
	Entries    int64               `json:"entries,omitempty"` // of a list
	Range      *FileRange          `json:"range,omitempty"`   // of a copy
	Counts     map[string]Attempts `json:"counts,omitempty"`  // of sftp.stat: all that only looked
	Extension  string              `json:"extension,omitempty"`
}

// RawBytes is a text that is not UTF-8.
type RawBytes struct {
	Raw []byte `json:"raw"`
}

// FileAttributes are those that a request sets; what it does not set is absent.
type FileAttributes struct {
	Size     *uint64 `json:"size,omitempty"`
	UID      *uint32 `json:"uid,omitempty"`
	GID      *uint32 `json:"gid,omitempty"`
	Mode     *uint32 `json:"mode,omitempty"`
	Accessed *uint32 `json:"accessed,omitempty"` // seconds since 1970
	Modified *uint32 `json:"modified,omitempty"`
}

// FileTransfer is what went over of one open file in one direction. A file that is read or written
// from its beginning to its end is one run at offset 0, whose digest is the file's.
type FileTransfer struct {
	Bytes int64     `json:"bytes"`
	Runs  []FileRun `json:"runs"`           // 1 to 16
	Rest  *FileRest `json:"rest,omitempty"` // what went over beside the first 16 runs
}

// FileRun is bytes that follow each other in the file, in the file's order.
type FileRun struct {
	Offset uint64 `json:"offset"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hex
}

// FileRest is bytes in the order in which they were sent.
type FileRest struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hex
}

// FileRange is what a host copies by itself; Bytes of 0 is up to the end.
type FileRange struct {
	Offset uint64 `json:"offset"`
	Bytes  uint64 `json:"bytes"`
	To     uint64 `json:"to"`
}

// Attempts is how often something was asked, and how often the host answered with an error.
type Attempts struct {
	Count  int64 `json:"count"`
	Failed int64 `json:"failed,omitempty"`
}
