package query

import "slices"

// Join returns a query that selects what every one of parts selects, without one And in another.
func Join(parts ...Expr) Expr {
	whole := And{}
	for _, x := range parts {
		if and, ok := x.(And); ok {
			whole = append(whole, and...)
		} else if x != nil {
			whole = append(whole, x)
		}
	}
	if len(whole) == 1 {
		return whole[0]
	}
	return whole
}

// Replace returns a copy of a query in which f has replaced every node that is no And, Or or Not.
func Replace(x Expr, f func(Expr) Expr) Expr {
	switch x := x.(type) {
	case nil:
		return nil
	case And:
		return And(replaceAll(x, f))
	case Or:
		return Or(replaceAll(x, f))
	case Not:
		return Not{Replace(x.X, f)}
	}
	return f(x)
}

func replaceAll(parts []Expr, f func(Expr) Expr) []Expr {
	out := make([]Expr, len(parts))
	for i, x := range parts {
		out[i] = Replace(x, f)
	}
	return out
}

// Screens returns the texts of a query that an indexer must look for, sorted, each once.
func Screens(x Expr) []string {
	var texts []string
	Replace(x, func(x Expr) Expr {
		if s, ok := x.(Screen); ok {
			texts = append(texts, s.Value)
		}
		return x
	})
	slices.Sort(texts)
	return slices.Compact(texts)
}

// NegatesScreen reports whether a Screen stands beneath a Not.
func NegatesScreen(x Expr) bool {
	switch x := x.(type) {
	case And:
		return slices.ContainsFunc(x, NegatesScreen)
	case Or:
		return slices.ContainsFunc(x, NegatesScreen)
	case Not:
		return len(Screens(x.X)) > 0
	}
	return false
}

// Enveloped returns a query that looks for free text in envelopes alone, for those who may not read
// content (design R11).
func Enveloped(x Expr) Expr {
	return Replace(x, func(x Expr) Expr {
		if t, ok := x.(Text); ok {
			t.Envelope = true
			return t
		}
		return x
	})
}
