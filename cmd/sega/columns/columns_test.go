package columns

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// TestRowsAreNotHeld: more rows than are looked at are printed as they come, and stay rows.
func TestRowsAreNotHeld(t *testing.T) {
	var out bytes.Buffer
	c := New(&out, "A", "LONG HEADER", "C")
	for i := range 3 * Page {
		cell := "x"
		if i == 2*Page {
			cell = "ein breites Größenfeld"
		}
		if err := c.Row(strconv.Itoa(i), cell, "end"); err != nil {
			t.Fatal(err)
		}
		if i == Page+1 && len(c.held) > 0 {
			t.Error("rows are held")
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3*Page+1 || lines[0] != "A    LONG HEADER  C" || lines[1] != "0    x            end" || lines[len(lines)-1] != "599  x            end" || lines[2*Page+1] != "400  ein breites Größenfeld  end" {
		t.Errorf("got\n%s", out.String())
	}
}

var key = "SHA256:" + strings.Repeat("k", 43)

// TestFold: what does not fit a terminal takes several lines, and is all there.
func TestFold(t *testing.T) {
	for name, c := range map[string]struct {
		cells int
		rows  [][]string
		want  string
	}{
		"of no terminal":       {0, [][]string{{"NAME", "KEY", "STATE"}, {"one", key, "a state of several words"}}, "NAME  KEY" + strings.Repeat(" ", 49) + "STATE\none   " + key + "  a state of several words\n"},
		"as wide as it":        {12, [][]string{{"AAAA", "B", "CCCC"}}, "AAAA  B  CCCC\n"[:0] + "AAAA  B\n  CCCC\n"},
		"fits":                 {13, [][]string{{"AAAA", "B", "CCCC"}}, "AAAA  B  CCCC\n"},
		"prose is broken":      {40, [][]string{{"WHERE", "STATE"}, {"bastion-1", "in force after 3 ms, 1 session cut"}}, "WHERE      STATE\nbastion-1  in force after 3 ms, 1\n           session cut\n"},
		"prose has no room":    {30, [][]string{{"WHERE", "STATE"}, {"bastion-1.corp", "in force after 3 ms, 1 session cut"}}, "WHERE\n  STATE\nbastion-1.corp\n  in force after 3 ms, 1\n  session cut\n"},
		"a word stays whole":   {20, [][]string{{"NAME", "KEY"}, {"one", key}}, "NAME\n  KEY\none\n  " + key + "\n"},
		"nothing of a line":    {20, [][]string{{"NAME", "KEY", "WHY"}, {"one", key, "x"}, {"two", "", ""}}, "NAME\n  KEY\n  WHY\none\n  " + key + "\n  x\ntwo\n"},
		"less than the header": {20, [][]string{{"NAME", "KEY"}, {"one"}}, "NAME  KEY\none\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			table := New(&out, c.rows[0]...)
			table.cells = c.cells
			for _, cells := range c.rows[1:] {
				if err := table.Row(cells...); err != nil {
					t.Fatal(err)
				}
			}
			if err := table.Flush(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// FuzzTable: whatever the width, every word is printed once and whole, and no line is wider that could be broken.
func FuzzTable(f *testing.F) {
	f.Add("NAME", "a few words", "and some more of them", 30)
	f.Add("", " ", "é\x00", 1)
	f.Fuzz(func(t *testing.T, a, b, c string, cells int) {
		row := []string{a, b, c}
		for i, v := range row {
			row[i] = strings.Join(strings.Fields(v), " ") // one line each
		}
		var out bytes.Buffer
		table := New(&out, row...)
		table.cells = cells % 200
		if err := table.Flush(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Fields(strings.Join(row, " ")), strings.Fields(out.String())); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); table.cells > 0 && n > max(table.cells, table.widths[0], table.widths[1]+len(gap), table.words[2]+len(gap)) {
				t.Errorf("%d cells: %q", table.cells, line)
			}
		}
	})
}
