package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/store"
)

// BenchmarkAppend appends events such as an hour of certificates makes, by 1, 16 and 256 writers,
// and reports events a second and the 99th percentile of an append in milliseconds.
func BenchmarkAppend(b *testing.B, open func(b *testing.B) store.Log) {
	for _, writers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := open(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			took := make([][]time.Duration, writers)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for n := left.Add(-1); n >= 0; n = left.Add(-1) {
						e := BenchEvent(w, n)
						start := time.Now()
						if _, err := l.Append(context.Background(), []audit.Event{e}, nil); err != nil {
							b.Error(err)
							return
						}
						took[w] = append(took[w], time.Since(start))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Concat(took...)
			slices.Sort(all)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// BenchEvent is the nth certificate of a writer.
func BenchEvent(writer int, n int64) audit.Event {
	e := audit.New(time.Now(), audit.KindSSHCert, audit.Success)
	e.Actor = audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.corp.example/oauth2/default",
		Sub: fmt.Sprintf("00u%017d", writer), Email: fmt.Sprintf("user%d@corp.example", writer)}
	e.LoginID = fmt.Sprintf("ses_%020d", writer*7919)
	e.RequestID = fmt.Sprintf("req_%020d", n)
	e.Resource = fmt.Sprintf("host/db%d.prod", n%50)
	e.Reason = "deploy of the billing service"
	e.Ticket = "OPS-1234"
	e.PolicyDigest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	e.PolicyIDs = []string{"ssh-oncall"}
	e.Source = "198.51.100.7"
	e.Node = "broker-1"
	return e
}
