package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// completed is what a shell is offered for a line, of which the last word is completed.
func completed(t *testing.T, a *app, line ...string) (words []string, directive string) {
	t.Helper()
	var out strings.Builder
	own := *a
	own.out = &out
	if code := run(t.Context(), append([]string{cobra.ShellCompNoDescRequestCmd}, line...), &own); code != exitDone {
		t.Fatalf("%q: exit %d", line, code)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	return lines[:len(lines)-1], lines[len(lines)-1]
}

// TestCompleted holds what is offered where.
func TestCompleted(t *testing.T) {
	a := listing(t).app
	bin := t.TempDir()
	for _, name := range []string{"terraform", "terragrunt", "other", "ter rible", "terra;x"} {
		must(t, os.WriteFile(filepath.Join(bin, name), nil, 0o755))
	}
	environment(a, "PATH", bin+string(filepath.ListSeparator)+filepath.Join(bin, "none"))
	const none, files = ":4", ":0"
	for name, c := range map[string]struct {
		line  string // words by spaces; "_" is an empty one
		want  string
		where string
	}{
		"roles":                        {"exec _", "dev-admin prod", none},
		"roles by their beginning":     {"exec dev", "dev-admin", none},
		"roles after flags":            {"exec --reason x pr", "prod", none},
		"roles for env":                {"env _", "dev-admin prod", none},
		"by another name":              {"export d", "dev-admin", none},
		"for credential-process":       {"credential-process p", "prod", none},
		"only one":                     {"env dev-admin _", "", none},
		"then --":                      {"exec dev-admin _", "--", none},
		"programs after --":            {"exec dev-admin -- terr", "terraform terragrunt", files},
		"programs without a role":      {"exec -- terraf", "terraform", files},
		"a path after --":              {"exec dev-admin -- ./t", "", files},
		"nothing after --":             {"exec dev-admin -- _", "", files},
		"arguments of a command":       {"exec dev-admin -- terraform te", "", files},
		"formats":                      {"env --format f", "fish", none},
		"formats of an export":         {"audit export --format asciicast", "asciicast-v2 asciicast-v3", none},
		"roles of a chain":             {"env dev-admin --chain _", "dev-admin prod", none},
		"hosts":                        {"ssh _", "web-1 web-2", none},
		"hosts of a login":             {"ssh root@_", "root@web-1", none},
		"hosts of a login, begun":      {"ssh deploy@web", "deploy@web-1 deploy@web-2", none},
		"hosts of no such login":       {"ssh nobody@", "", none},
		"after the host":               {"ssh web-1 _", "", none},
		"sessions":                     {"sessions kill _", "ses_1 ssh_1 ses_2", none},
		"sessions to revoke":           {"revoke session ss", "ssh_1", none},
		"users":                        {"revoke user _", "alice@example.com mch_1", none},
		"users to unblock":             {"unblock user al", "alice@example.com", none},
		"hosts to revoke":              {"revoke host _", "web-1 web-2 db-1", none},
		"keys to remove":               {"keys rm l", "laptop", none},
		"files of keys":                {"keys add _", "", files},
		"hosts to unblock":             {"unblock host w", "web-1 web-2", none},
		"profiles of certificates":     {"revoke cert 7 --profile ho", "hop host", none},
		"recordings":                   {"audit show _", "ssh_1", none},
		"recordings to play":           {"audit play s", "ssh_1", none},
		"filters":                      {"audit query --host d", "db-1", none},
		"no files where none are read": {"status _", "", none},
		"files where they are":         {"audit verify _", "", files},
		"a file of a policy":           {"exec --policy _", "", files},
		"roles of a console":           {"console dev", "dev-admin", none},
		"browsers of a console":        {"console dev-admin --browser ch", "chrome chromium", none},
		"commands":                     {"revo", "revoke", none},
	} {
		t.Run(name, func(t *testing.T) {
			words := strings.Fields(c.line)
			for i := range words {
				words[i] = strings.TrimSuffix(words[i], "_")
			}
			got, directive := completed(t, a, words...)
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" || directive != c.where {
				t.Errorf("%s\n-want +got\n%s", directive, diff)
			}
		})
	}
}

// TestCompletedWithoutLists: without a login nothing is offered, nothing is asked and nothing is said.
func TestCompletedWithoutLists(t *testing.T) {
	a, _, _ := testApp(t)
	for _, line := range []string{"exec ", "env --chain ", "ssh root@", "revoke user ", "audit play "} {
		if got, directive := completed(t, a, strings.Split(line, " ")...); len(got) > 0 || directive != ":4" {
			t.Errorf("%q: %q, %s", line, got, directive)
		}
	}
	if entries, err := os.ReadDir(a.getenv("SEGA_HOME")); err != nil || len(entries) > 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
}

// TestCompletersAreOfCommands: each stands for a command, and no command that takes a name of ours lacks one.
func TestCompletersAreOfCommands(t *testing.T) {
	a, _, _ := testApp(t)
	completers := a.completers(nil)
	walk(newRoot(a), func(c *cobra.Command) {
		for _, argument := range []string{"ROLE", "HOST", "E-MAIL", " ID", "SESSION"} {
			if _, ok := completers[c.CommandPath()]; strings.Contains(c.Use, argument) && !ok {
				t.Errorf("%s: nothing completes %s", c.Use, argument)
			}
		}
		delete(completers, c.CommandPath())
	})
	for path := range completers {
		t.Errorf("%q is no command", path)
	}
}
