package scp

import (
	"path"
	"strings"
)

// parse reads a command line that runs scp at the far end: whether files go there, and the path that
// it names. A shell reads it before scp does, so it may mean something else all the same.
func parse(command string) (there bool, target string, ok bool) {
	words := strings.Fields(command)
	if len(words) < 3 || path.Base(words[0]) != "scp" {
		return false, "", false
	}
	to, from := false, false
	i := 1
	for ; i < len(words) && len(words[i]) > 1 && words[i][0] == '-'; i++ {
		if words[i] == "--" {
			i++
			break
		}
		to, from = to || strings.Contains(words[i], "t"), from || strings.Contains(words[i], "f")
	}
	return to, strings.Join(words[i:], " "), to != from && i < len(words)
}
