package wsgateway

import (
	"fmt"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one gateway. They count with or without a registry.
type metrics struct {
	sessions   prometheus.Gauge
	turnedAway prometheus.Counter
	closed     *prometheus.CounterVec
	asks       *prometheus.CounterVec
	heldBack   prometheus.Counter
	slowed     prometheus.Counter
	words      prometheus.Counter
	failures   prometheus.Counter
	report     prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "saltpeter_wsgateway_" + name, Help: help})
	}
	return &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "saltpeter_wsgateway_sessions", Help: "Wrapper sessions on this node.",
		}),
		turnedAway: counter("turned_away_total", "Connections refused because the node has too many sessions."),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saltpeter_wsgateway_closed_total", Help: "Sessions closed, by WebSocket status.",
		}, []string{"status"}),
		asks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saltpeter_wsgateway_asks_total", Help: "Hellos, start claims and resumes that were answered, by answer.",
		}, []string{"answer"}),
		heldBack: counter("held_back_total", "Times that a session was not read because its words, or all words, were too many."),
		slowed:   counter("slowed_total", "Times that a session was slowed down to its rate."),
		words:    counter("words_total", "Words that were committed."),
		failures: counter("report_failures_total", "Report calls without an answer; their words are reported again."),
		report: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "saltpeter_wsgateway_report_seconds", Help: "Time from a Report call to its commit.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13),
		}),
	}
}

// register puts the metrics into r; the returned function takes them out again.
func (m *metrics) register(r prometheus.Registerer) (func(), error) {
	all := []prometheus.Collector{m.sessions, m.turnedAway, m.closed, m.asks, m.heldBack, m.slowed, m.words, m.failures, m.report}
	remove := func() {
		for _, c := range all {
			r.Unregister(c)
		}
	}
	if r == nil {
		return func() {}, nil
	}
	for i, c := range all {
		if err := r.Register(c); err != nil {
			all = all[:i] // what stands there already is not ours
			remove()
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return remove, nil
}

func (m *metrics) reported(began time.Time, c *call, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	m.words.Add(float64(c.words))
	m.report.Observe(time.Since(began).Seconds())
}

func (m *metrics) closedBy(code websocket.StatusCode) {
	m.closed.WithLabelValues(strconv.Itoa(int(code))).Inc()
}
