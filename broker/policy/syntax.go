package policy

import (
	"fmt"
	"strings"
)

// maxNesting bounds brackets within brackets. Parser and validator recurse, and the validator's
// time grows with the square of the depth of nested sets.
const maxNesting = 64

// checkNesting returns an error that names the first line nested deeper than maxNesting. Brackets in
// strings and comments do not count.
func checkNesting(name string, data []byte) error {
	line, depth := 1, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '\n':
			line++
		case '"':
			end := skipString(data, i)
			line += strings.Count(string(data[i:end]), "\n")
			i = end - 1
		case '/':
			if i+1 < len(data) && data[i+1] == '/' {
				i = skipLine(data, i) - 1
			}
		case '(', '[', '{':
			if depth++; depth > maxNesting {
				return fmt.Errorf("%s:%d: brackets nested deeper than %d", name, line, maxNesting)
			}
		case ')', ']', '}':
			depth--
		}
	}
	return nil
}

// skipString returns the index after the string that starts at i, or the end of data.
func skipString(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

func skipLine(data []byte, i int) int {
	for i < len(data) && data[i] != '\n' {
		i++
	}
	return i
}

// parserInput is what Cedar's parser calls every text.
const parserInput = "<input>"

// syntaxError rewrites a parser's error as "file:line:column: what". The parser puts the position
// in the middle, or leaves it out.
func syntaxError(name string, err error) error {
	text := strings.TrimPrefix(err.Error(), "parser error: ")
	before, after, found := strings.Cut(text, parserInput+":")
	if !found {
		return fmt.Errorf("%s: %s", name, text)
	}
	rest := strings.TrimLeft(after, "0123456789:")
	position := strings.TrimSuffix(after[:len(after)-len(rest)], ":")
	what := strings.TrimSpace(strings.TrimSuffix(before, "parse error at ") + strings.TrimSpace(rest))
	return fmt.Errorf("%s:%s: %s", name, position, what)
}
