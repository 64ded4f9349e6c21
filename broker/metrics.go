package broker

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what /metrics shows. No label carries a person's name.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(r *prometheus.Registry, s *Server) *metrics {
	m := &metrics{registry: r,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sega_requests_total", Help: "Requests answered, by route and HTTP status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sega_request_seconds", Help: "Time to answer, by route.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}, []string{"route"}),
	}
	r.MustRegister(m.requests, m.seconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sega_log_size", Help: "Events in the audit log."}, func() float64 {
			_, tree := s.Log.Head()
			return float64(tree.N)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sega_feeds", Help: "Bastions that follow the revocation feed."}, func() float64 {
			return float64(s.hub.connected())
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sega_agents", Help: "Agents on laptops that follow the feed of their session."}, func() float64 {
			return float64(s.agents.connected())
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sega_indexers", Help: "Indexers that answer searches for what screens showed."}, func() float64 {
			return float64(s.screens.connected())
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sega_ca_foreign_keys", Help: "Keys of CAs that stand in the database and not in the configuration, and are not trusted."}, func() float64 {
			return float64(len(s.cas.now.Load().foreign))
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sega_ready", Help: "1 while /readyz answers 200."}, func() float64 {
			if s.readiness() == nil {
				return 1
			}
			return 0
		}))
	return m
}

func (m *metrics) observe(route string, status int, d time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(d.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
