//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Result is a line of bench.json.
type Result struct {
	Name      string   `json:"name"`
	Value     float64  `json:"value"`
	Unit      string   `json:"unit"`
	Budget    *float64 `json:"budget"` // in Unit
	Peer      *string  `json:"peer"`
	PeerValue *float64 `json:"peer_value"` // in Unit
	Ratio     *float64 `json:"ratio"`      // Value to PeerValue
	OK        *bool    `json:"ok"`

	least bool // the budget is the least, not the most
}

func result(name string, value float64, unit string) Result {
	return Result{Name: name, Value: round(value), Unit: unit}
}

// against sets the peer.
func (r Result) against(peer string, value float64) Result {
	value = round(value)
	r.Peer, r.PeerValue = &peer, &value
	if value != 0 {
		ratio := round(r.Value / value)
		r.Ratio = &ratio
	}
	return r
}

// unmeasured names a peer that this run has not measured.
func (r Result) unmeasured(peer string) Result {
	r.Peer = &peer
	return r
}

func (r Result) atMost(budget float64) Result {
	budget = round(budget)
	ok := r.Value <= budget
	r.Budget, r.OK = &budget, &ok
	return r
}

func (r Result) atLeast(budget float64) Result {
	budget = round(budget)
	ok := r.Value >= budget
	r.Budget, r.OK, r.least = &budget, &ok, true
	return r
}

// round keeps four digits: no measurement here has more.
func round(v float64) float64 {
	out, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil || math.IsInf(out, 0) || math.IsNaN(out) {
		return 0
	}
	return out
}

// table prints results for people.
func table(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVALUE\tUNIT\tBUDGET\tOK\tPEER\tPEER VALUE\tRATIO")
	for _, r := range results {
		fmt.Fprintln(t, strings.Join([]string{r.Name, number(&r.Value), r.Unit, r.limit(), r.verdict(), text(r.Peer), number(r.PeerValue), number(r.Ratio)}, "\t"))
	}
	return t.Flush()
}

func (r Result) limit() string {
	switch {
	case r.Budget == nil:
		return "-"
	case r.least:
		return "≥ " + number(r.Budget)
	}
	return "≤ " + number(r.Budget)
}

func (r Result) verdict() string {
	switch {
	case r.OK == nil:
		return "-"
	case *r.OK:
		return "yes"
	}
	return "NO"
}

func text(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', -1, 64)
}

// write replaces the file with the list; an empty one is [] and not null.
func write(path string, results []Result) error {
	raw, err := json.MarshalIndent(append([]Result{}, results...), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
