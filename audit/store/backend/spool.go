package backend

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"

	"sega/audit"
)

// spool keeps rollups aside in a file without a name, so that whoever reads them slowly holds no
// connection and no transaction of the database. Texts are numbered as they come: a rollup takes some
// 15 bytes of the disk, and each different text stays in memory.
type spool struct {
	file *os.File
	name string // where the file could not be removed while it is open
	out  *bufio.Writer
	seen map[string]uint64
	buf  []byte
	once sync.Once
	err  error // of close
}

// newSpool makes the file in a directory, that of temporary files where it is "".
func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "sega-rollups-*")
	if err != nil {
		return nil, fmt.Errorf("a file for rollups: %w", err)
	}
	s := &spool{file: f, out: bufio.NewWriterSize(f, 64<<10), seen: map[string]uint64{}}
	if os.Remove(f.Name()) != nil {
		s.name = f.Name()
	}
	return s, nil
}

// texts are those of a rollup.
func texts(r *audit.Rollup) [7]*string {
	return [...]*string{&r.Cube, &r.Day, &r.Kind, &r.Outcome, &r.Email, &r.Sub, &r.Target}
}

// add writes a rollup.
func (s *spool) add(r audit.Rollup) error {
	b := binary.AppendVarint(s.buf[:0], r.N)
	for _, text := range texts(&r) {
		n, again := s.seen[*text]
		if !again {
			n = uint64(len(s.seen))
			s.seen[*text] = n
		}
		if b = binary.AppendUvarint(b, n); !again {
			b = append(binary.AppendUvarint(b, uint64(len(*text))), *text...)
		}
	}
	s.buf = b
	_, err := s.out.Write(b)
	return err
}

// all ends the writing and yields what was added, once; then, or when ctx ends, the file is gone
// and release is called.
func (s *spool) all(ctx context.Context, release func()) (iter.Seq2[audit.Rollup, error], error) {
	s.seen, s.buf = nil, nil
	err := s.out.Flush()
	if err == nil {
		_, err = s.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a file for rollups: %w", err), s.close())
	}
	once := sync.OnceFunc(func() {
		_ = s.close()
		release()
	})
	stop := context.AfterFunc(ctx, once) // where nobody iterates
	return func(yield func(audit.Rollup, error) bool) {
		defer once()
		defer stop()
		in, list := bufio.NewReaderSize(s.file, 64<<10), []string{}
		for {
			var r audit.Rollup
			err := next(in, &list, &r)
			if err == io.EOF {
				return
			}
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}, nil
}

// next reads a rollup; io.EOF says that there is none.
func next(in *bufio.Reader, list *[]string, r *audit.Rollup) (err error) {
	if r.N, err = binary.ReadVarint(in); err != nil {
		return err
	}
	for _, text := range texts(r) {
		n, err := binary.ReadUvarint(in)
		if err == nil && n == uint64(len(*list)) {
			err = another(in, list)
		}
		if err == nil && n >= uint64(len(*list)) {
			err = errors.New("it holds what was not written")
		}
		if err != nil {
			return fmt.Errorf("read the file of rollups: %w", noEOF(err))
		}
		*text = (*list)[n]
	}
	return nil
}

// another reads the next text.
func another(in *bufio.Reader, list *[]string) error {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	*list = append(*list, string(b))
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// close drops the file.
func (s *spool) close() error {
	s.once.Do(func() {
		s.err = s.file.Close()
		if s.name != "" {
			s.err = errors.Join(s.err, os.Remove(s.name))
		}
	})
	return s.err
}
