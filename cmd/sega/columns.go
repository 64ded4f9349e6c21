package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	tables "sega/cmd/sega/columns"
)

// columns is a table of what came from elsewhere, and says of an error that it is one of printing.
type columns struct{ *tables.Table }

func newColumns(w io.Writer, header ...string) *columns {
	return &columns{tables.New(w, escapeCells(header)...)}
}

// row takes a row, which is escaped.
func (c *columns) row(cells ...string) error { return printed(c.Row(escapeCells(cells)...)) }

func escapeCells(cells []string) []string {
	out := make([]string, len(cells))
	for i, cell := range cells {
		out[i] = strings.ReplaceAll(strings.ReplaceAll(escape(cell), "\n", `\n`), "\t", `\t`)
	}
	return out
}

func (c *columns) write(text string) error { return printed(c.Write(text)) }
func (c *columns) salvage() error          { return printed(c.Salvage()) }
func (c *columns) flush() error            { return printed(c.Flush()) }
func (c *columns) send() error             { return printed(c.Send()) }

// table prints a short one.
func table(w io.Writer, header []string, rows [][]string) error {
	c := newColumns(w, header...)
	for _, cells := range rows {
		if err := c.row(cells...); err != nil {
			return err
		}
	}
	return c.flush()
}

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
