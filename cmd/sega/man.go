//go:build man

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// addMan adds the command that writes the manual, to builds that are made for that alone (make man).
// cobra's own generator takes help for Markdown, in which session.* and ssh_… mean something else.
func addMan(root *cobra.Command) {
	root.AddCommand(&cobra.Command{Use: "man DIR", Short: "Write a manual page for every command", Hidden: true, Args: exactly("DIR"), Example: "  sega man man/man1",
		RunE: func(_ *cobra.Command, args []string) error {
			date, err := manDate(os.Getenv)
			if err != nil {
				return err
			}
			return writeMan(root, args[0], date)
		}})
}

// manDate is SOURCE_DATE_EPOCH (reproducible-builds.org), so that the same source gives the same pages;
// without it today.
func manDate(getenv func(string) string) (time.Time, error) {
	epoch := getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// writeMan writes a page for a command and for each below it that the help lists.
func writeMan(c *cobra.Command, dir string, date time.Time) error {
	path := filepath.Join(dir, manName(c)+".1")
	err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, []byte(manPage(c, date)), 0o644))
	for _, sub := range c.Commands() {
		if err == nil && sub.IsAvailableCommand() {
			err = writeMan(sub, dir, date)
		}
	}
	return err
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is the page of a command in man(7).
func manPage(c *cobra.Command, date time.Time) string {
	c.InitDefaultHelpFlag()
	p := &manText{}
	p.line(`.TH "%s" "1" "%s" "sega %s" "sega"`, strings.ToUpper(roff(manName(c))), date.Format(time.DateOnly), roff(version))
	p.section("NAME")
	p.line(`%s \- %s`, roff(manName(c)), prose(c.Short))
	p.section("SYNOPSIS")
	p.line(`\fB%s\fR%s`, roff(c.CommandPath()), roff(strings.TrimPrefix(c.UseLine(), c.CommandPath())))
	if c.HasAvailableSubCommands() {
		p.line(".br")
		p.line(`\fB%s\fR \fICOMMAND\fR`, roff(c.CommandPath()))
	}
	p.section("DESCRIPTION")
	p.text(firstOf(c.Long, c.Short+"."))
	p.commands(c)
	p.flags("OPTIONS", c.NonInheritedFlags())
	p.flags("OPTIONS OF EVERY COMMAND", c.InheritedFlags())
	p.section("EXAMPLES")
	p.literal(strings.Split(c.Example, "\n"))
	for _, s := range manSections(c) {
		p.section(s.title)
		for _, v := range s.items {
			p.item(`\fB`+roff(v[0])+`\fR`, v[1])
		}
	}
	p.related(c)
	return p.String()
}

// manText is a page that is being written.
type manText struct{ strings.Builder }

func (p *manText) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *manText) section(title string) { p.line(".SH %s", title) }

// item is a term and what it means.
func (p *manText) item(term, text string) {
	p.line(".TP")
	p.line("%s", term)
	p.line("%s", prose(text))
}

// text is paragraphs, those that are laid out by spaces as they are.
func (p *manText) text(s string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		lines := strings.Split(paragraph, "\n")
		if strings.HasPrefix(paragraph, " ") || strings.Contains(paragraph, "\n ") {
			p.literal(lines)
			continue
		}
		for _, l := range lines {
			p.line("%s", prose(l))
		}
	}
}

func (p *manText) literal(lines []string) {
	p.line(".nf")
	for _, l := range lines {
		p.line("%s", roff(l))
	}
	p.line(".fi")
}

func (p *manText) commands(c *cobra.Command) {
	if !c.HasAvailableSubCommands() {
		return
	}
	p.section("COMMANDS")
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			p.item(`\fB`+roff(manName(sub))+`\fR(1)`, sub.Short)
		}
	}
}

func (p *manText) flags(title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	p.section(title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		value = strings.TrimSuffix(value, "Array")
		term := `\fB\-\-` + roff(f.Name) + `\fR`
		if f.Shorthand != "" {
			term = `\fB\-` + roff(f.Shorthand) + `\fR, ` + term
		}
		if value != "" {
			term += ` \fI` + roff(value) + `\fR`
		}
		switch f.DefValue {
		case "", "0", "0s", "-1", "false", "[]":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		p.item(term, usage)
	})
}

// related names the page above and those below.
func (p *manText) related(c *cobra.Command) {
	var pages []string
	if c.HasParent() {
		pages = append(pages, c.Parent().CommandPath())
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			pages = append(pages, sub.CommandPath())
		}
	}
	if len(pages) == 0 {
		return
	}
	p.section("SEE ALSO")
	for i, path := range pages {
		end := ","
		if i == len(pages)-1 {
			end = ""
		}
		p.line(`\fB%s\fR(1)%s`, roff(strings.ReplaceAll(path, " ", "-")), end)
	}
}

// roff is text as it stands: what roff(7) would act on is escaped, and a hyphen can be copied as one.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "\t", "    ").Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// prose is text of sentences.
func prose(s string) string { return strings.ReplaceAll(roff(strings.TrimSpace(s)), "\n", " ") }
