package tui_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"sega/cmd/sega/tui"
	"sega/cmd/sega/tui/tuitest"
)

func FuzzText(f *testing.F) {
	for _, text := range tuitest.Hostile()[:10] {
		f.Add(text, 7)
	}
	f.Fuzz(func(t *testing.T, text string, width int) {
		width = max(min(width, 200), 0)
		shown := tui.Clean(text)
		for _, r := range shown {
			if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) {
				t.Fatalf("%U in %q", r, shown)
			}
		}
		if tui.Clean(shown) != shown {
			t.Errorf("%q is cleaned again to %q", shown, tui.Clean(shown))
		}
		if c := tui.Cut(shown, width); tui.Cells(c) > width || ansi.StringWidth(c) > width {
			t.Errorf("%q has %d cells of %d", c, tui.Cells(c), width)
		}
		if tui.Cells(tui.Fit(shown, width)) != width {
			t.Errorf("%q has %d cells, not %d", tui.Fit(shown, width), tui.Cells(tui.Fit(shown, width)), width)
		}
		if joined := strings.Join(tui.Wrap(shown, width), ""); strings.ReplaceAll(joined, " ", "") != strings.ReplaceAll(shown, " ", "") {
			t.Errorf("%q is wrapped to %q", shown, joined)
		}
		for _, l := range tui.Wrap(shown, width) {
			if tui.Cells(l) > max(width, 2) {
				t.Errorf("%q is wider than %d", l, width)
			}
		}
	})
}
