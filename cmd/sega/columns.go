package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode/utf8"
)

// columnsPage is how many rows are looked at before the first is printed, to align them.
const columnsPage = 200

// columns prints a table of any length: the first rows make the widths, and what comes later is
// printed as it comes; a cell that is wider moves those beside it.
type columns struct {
	out    *bufio.Writer
	widths []int
	held   [][]string // the header and rows, not printed yet; nil once the widths stand
}

func newColumns(w io.Writer, header ...string) *columns {
	c := &columns{out: bufio.NewWriterSize(w, 32<<10), widths: make([]int, len(header)), held: [][]string{}}
	c.hold(header)
	return c
}

// row takes a row; what stands in it came from elsewhere and is escaped.
func (c *columns) row(cells ...string) error {
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(strings.ReplaceAll(escape(cell), "\n", `\n`), "\t", `\t`)
	}
	if c.held == nil {
		return c.print(cells)
	}
	if c.hold(cells); len(c.held) <= columnsPage {
		return nil
	}
	return c.release()
}

func (c *columns) hold(cells []string) {
	for i, cell := range cells {
		c.widths[i] = max(c.widths[i], utf8.RuneCountInString(cell))
	}
	c.held = append(c.held, cells)
}

// release prints what is held; from now on rows are printed as they come.
func (c *columns) release() error {
	held := c.held
	c.held = nil
	for _, cells := range held {
		if err := c.print(cells); err != nil {
			return err
		}
	}
	return nil
}

func (c *columns) print(cells []string) error {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", max(0, c.widths[i]-utf8.RuneCountInString(cell))+2))
		}
	}
	return c.write(strings.TrimRight(b.String(), " ") + "\n")
}

// write prints text as it is.
func (c *columns) write(text string) error {
	_, err := c.out.WriteString(text)
	return printed(err)
}

// salvage prints what came before an error, and no header alone.
func (c *columns) salvage() error {
	if len(c.held) == 1 {
		c.held = nil
	}
	return c.flush()
}

// flush prints all that was taken.
func (c *columns) flush() error {
	if err := c.release(); err != nil {
		return err
	}
	return c.send()
}

// send hands on what was printed.
func (c *columns) send() error { return printed(c.out.Flush()) }

// outputError is a failure to print.
type outputError struct{ error }

func (e outputError) Unwrap() error { return e.error }

func printed(err error) error {
	if err == nil {
		return nil
	}
	return outputError{err}
}

// quietly drops the error of output that nobody reads any more, as behind `| head`.
func quietly(err error) error {
	var out outputError
	if errors.As(err, &out) && errors.Is(out, syscall.EPIPE) {
		return nil
	}
	return err
}

// plural is a number with what it counts.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
