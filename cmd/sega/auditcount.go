package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sega/audit/query"
	"sega/broker/api"
)

func dimensionNames() []string {
	var names []string
	for _, d := range query.Dimensions() {
		names = append(names, string(d))
	}
	return names
}

// addDimensions checks a list like user,role and asks for it.
func addDimensions(q url.Values, by string) error {
	var seen []string
	for name := range strings.SplitSeq(by, ",") {
		switch {
		case !slices.Contains(dimensionNames(), name):
			return usagef("--count-by takes %s, joined by commas, and not %q", strings.Join(dimensionNames(), ", "), name)
		case slices.Contains(seen, name):
			return usagef("--count-by has %s twice", name)
		}
		seen = append(seen, name)
	}
	q.Set(api.ParamBy, by)
	return nil
}

// completeDimensions offers what may follow the last comma.
func completeDimensions(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	begun := ""
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		begun = typed[:i+1]
	}
	var offers []string
	for _, name := range dimensionNames() {
		if !slices.Contains(strings.Split(begun, ","), name) {
			offers = append(offers, begun+name)
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// maxGroups bounds what is kept to be sorted.
const maxGroups = 1_000_000

// printCounts prints the largest counts first, but what is counted by day in the order of days.
func (s *session) printCounts(ctx context.Context, q url.Values, o queryOptions) error {
	var groups []api.Group
	by := strings.Split(o.countBy, ",")
	for g, err := range s.Count(s.app.noticed(ctx), q) {
		if err == nil && len(g.Key) != len(by) {
			err = fmt.Errorf("the broker counts by %d dimensions, and was asked for %d", len(g.Key), len(by))
		}
		if err == nil && len(groups) == maxGroups {
			err = withHint(fmt.Errorf("there are more than %d different counts", maxGroups), "narrow the query, or count by fewer dimensions")
		}
		if err != nil {
			return err
		}
		groups = append(groups, g)
	}
	if len(groups) == 0 {
		defer s.app.nothing(q)
	}
	sortGroups(groups, by, o.top)
	left := 0
	if o.top > 0 && len(groups) > o.top {
		left = len(groups) - o.top
		groups = groups[:o.top]
	}
	out := newColumns(s.app.out, append(strings.Split(strings.ToUpper(o.countBy), ","), "COUNT")...)
	for _, g := range groups {
		if err := out.group(g, by, s.app.json); err != nil {
			return err
		}
	}
	if s.app.json {
		return out.send()
	}
	if left > 0 {
		defer fmt.Fprintf(s.app.err, "sega: %d smaller counts are left out\n", left)
	}
	return out.flush()
}

// sortGroups puts the largest first, equal ones by key. Days stay in their order where they come
// first and all are wanted.
func sortGroups(groups []api.Group, by []string, top int) {
	days := top == 0 && by[0] == string(query.ByDay)
	slices.SortStableFunc(groups, func(a, b api.Group) int {
		if days && a.Key[0] != b.Key[0] {
			return cmp.Compare(a.Key[0], b.Key[0])
		}
		return cmp.Or(cmp.Compare(b.Count, a.Count), slices.Compare(a.Key, b.Key))
	})
}

func (c *columns) group(g api.Group, by []string, asJSON bool) error {
	count := strconv.FormatInt(g.Count, 10)
	if !asJSON {
		cells := make([]string, len(by))
		for i, v := range g.Key {
			cells[i] = firstOf(v, "-")
		}
		return c.row(append(cells, count)...)
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, name := range by {
		value, err := json.Marshal(g.Key[i])
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q:%s,", name, value)
	}
	return c.write(escape(b.String()+`"count":`+count+"}") + "\n")
}
