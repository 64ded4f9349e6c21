package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"sega/audit/recording"
)

// Raw writes the bytes of one stream of one channel exactly as they passed.
func Raw(w io.Writer, r *recording.Reader, channel uint32, s recording.Stream) error {
	if s < recording.StreamIn || s > recording.StreamErr {
		return fmt.Errorf("export: %s is no stream of bytes", s)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	for f, err := range ofChannel(r, channel) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if f.Stream != s {
			continue
		}
		if _, err := out.Write(f.Data); err != nil {
			return err
		}
	}
	return out.Flush()
}
