package bastion

import (
	"os"

	"golang.org/x/sys/unix"
)

// roomy lets a new file grow by large steps; its length stays that of what is written (fallocate(2)). To cut it to that
// length gives back what lies behind.
func roomy(f *os.File) SpoolFile {
	giveBack := func() error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return f.Truncate(info.Size())
	}
	return &roomyFile{SpoolFile: f, giveBack: giveBack, take: func(from, n int64) error {
		err := error(unix.EINTR)
		for err == unix.EINTR { // by a signal of Go's own
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, n)
		}
		return err
	}}
}
