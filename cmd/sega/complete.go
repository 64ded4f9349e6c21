package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sega/broker/api"
)

// completer says what may be typed next. It reads files of ours alone: a shell that completes does not wait.
type completer func(args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective)

// onlyThese is that nothing else is offered, no files either.
const onlyThese = cobra.ShellCompDirectiveNoFileComp

// completers are what arguments of a command are completed by; a command that is not listed has none
// that could be.
func (a *app) completers(words []string) map[string]completer {
	role, session, user := a.first(rolesList), a.first(sessionsList), a.first(usersList)
	recorded := a.first(sessionsList, "ssh_")
	return map[string]completer{
		"sega exec": a.afterExec(words), "sega env": role, "sega credential-process": role, "sega console": role, "sega serve": role,
		"sega ssh": a.completeSSH, "sega sessions kill": session, "sega revoke session": session, "sega revoke user": user, "sega unblock user": user,
		"sega keys rm": a.first(keysList), "sega keys add": completeFiles,
		"sega revoke host": a.first(inventoryList), "sega unblock host": a.first(inventoryList),
		"sega audit show": recorded, "sega audit play": recorded, "sega audit export": recorded, "sega audit tail": recorded,
		"sega audit verify": completeFiles,
	}
}

// flagCompleters are the same for values of flags, by the flag's name, or by that of the command and the flag.
func (a *app) flagCompleters() map[string]completer {
	return map[string]completer{
		"sega env --format": completeWords(slices.Sorted(maps.Keys(envFormats))...), "sega audit export --format": completeWords(formatCast2, formatCast3, formatText, formatRaw),
		"--chain": a.first(rolesList), "--role": a.first(rolesList), "--host": a.first(inventoryList), "--user": a.first(usersList), "--session": a.first(sessionsList),
		"--key": completeFiles, "--key-agent": completeFiles,
		"sega revoke cert --profile": completeWords(api.ProfileAccess, api.ProfileHop, api.ProfileFront, api.ProfileHost),
		"--region":                   completeWords(regions()...), "--browser": completeWords(isolatedNames()...),
	}
}

// completes reports whether a shell asks for completions (cobra's hidden commands).
func completes(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// addCompleters registers what completes the words of a command line. Other calls do without it.
func (a *app) addCompleters(root *cobra.Command, words []string) {
	arguments, flags := a.completers(words), a.flagCompleters()
	var add func(c *cobra.Command)
	add = func(c *cobra.Command) {
		if complete, ok := arguments[c.CommandPath()]; ok {
			c.ValidArgsFunction = completionFunc(complete)
		} else if c.ValidArgsFunction == nil {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			complete, ok := flags[c.CommandPath()+" --"+f.Name]
			if !ok {
				complete, ok = flags["--"+f.Name]
			}
			if _, has := c.GetFlagCompletionFunc(f.Name); ok && !has {
				_ = c.RegisterFlagCompletionFunc(f.Name, completionFlag(complete)) // the flag is there
			}
		})
		for _, sub := range c.Commands() {
			add(sub)
		}
	}
	add(root)
}

// completionFunc is a completer of arguments, as cobra wants it.
func completionFunc(f completer) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return f(args, toComplete)
	}
}

// completionFlag is completionFunc for a flag: whichever arguments there are, it is the first word.
func completionFlag(f completer) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return f(nil, toComplete)
	}
}

func completeWords(words ...string) completer {
	return func(_ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, toComplete) }), onlyThese
	}
}

func completeFiles([]string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// first completes the first argument from a list, of names that begin with one of prefixes where any are given.
func (a *app) first(name string, prefixes ...string) completer {
	return func(args []string, toComplete string) (out []cobra.Completion, _ cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, onlyThese
		}
		for _, v := range a.readList(name) {
			if len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(v.Name, p) }) {
				out = offer(out, v.Name, v.Text, toComplete)
			}
		}
		return out, onlyThese
	}
}

// afterExec offers roles, then --, then what the shell could run. Words are the line, the last of them
// that which is completed: of its arguments alone one cannot tell on which side of -- they stand.
func (a *app) afterExec(words []string) completer {
	before := words[:max(len(words)-1, 0)]
	dash := slices.Index(before, "--")
	return func(args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch {
		case dash < 0 && len(args) == 0:
			return a.first(rolesList)(args, toComplete)
		case dash < 0:
			return []cobra.Completion{cobra.CompletionWithDesc("--", "the command follows")}, onlyThese
		case dash == len(before)-1 && toComplete != "" && !strings.ContainsRune(toComplete, filepath.Separator):
			return programs(a.getenv("PATH"), toComplete), cobra.ShellCompDirectiveDefault
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// programs are those on the path that begin with a prefix.
func programs(path, prefix string) (out []cobra.Completion) {
	for _, dir := range filepath.SplitList(path) {
		entries, _ := os.ReadDir(dir) // one that cannot be read has none to run
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) && !e.IsDir() {
				out = offer(out, e.Name(), "", prefix)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// completeSSH offers hosts, and behind USER@ those that let that user in. What follows the host runs
// on the host, of which this machine knows nothing.
func (a *app) completeSSH(args []string, toComplete string) (out []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, onlyThese
	}
	login, _, named := strings.Cut(toComplete, "@")
	for _, h := range a.readList(hostsList) {
		switch {
		case !named:
			out = offer(out, h.Name, h.Text, toComplete)
		case slices.Contains(h.Logins, login):
			out = offer(out, login+"@"+h.Name, h.Text, toComplete)
		}
	}
	return out, onlyThese
}

// plainWord reports whether a name may be offered: nothing that a shell could take for more than a
// word, or sega for a flag.
func plainWord(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._+@/=-", r)
	})
}

// offer adds a name that fits what was typed, with a text for people.
func offer(to []cobra.Completion, name, text, toComplete string) []cobra.Completion {
	if !strings.HasPrefix(name, toComplete) || !plainWord(name) {
		return to
	}
	if text = escapeLine(text); text == "" {
		return append(to, name)
	}
	return append(to, cobra.CompletionWithDesc(name, text))
}

// regions are those of AWS that accounts have or can enable (docs.aws.amazon.com, "AWS Regions"), with
// China and GovCloud.
func regions() []string {
	return []string{
		"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2",
		"ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "cn-north-1", "cn-northwest-1", "eu-central-1", "eu-central-2",
		"eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1",
		"us-east-1", "us-east-2", "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
	}
}
