package cluster

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one node.
type metrics struct {
	entries    *prometheus.CounterVec
	commands   prometheus.Counter
	bytes      prometheus.Counter
	commit     prometheus.Histogram
	leading    prometheus.Gauge
	calls      *prometheus.CounterVec
	conns      prometheus.Gauge
	refused    *prometheus.CounterVec
	snapshots  *prometheus.CounterVec
	leaderSeen prometheus.GaugeFunc
}

func newMetrics(reg prometheus.Registerer, contactAge func() time.Duration) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "saltpeter_cluster_" + name, Help: help}
	}
	m := &metrics{
		entries:  prometheus.NewCounterVec(opts("entries_total", "Log entries proposed here, by outcome."), []string{"outcome"}),
		commands: prometheus.NewCounter(opts("commands_total", "Commands committed that were proposed here.")),
		bytes:    prometheus.NewCounter(opts("entry_bytes_total", "Bytes of the entries committed that were proposed here.")),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "saltpeter_cluster_commit_seconds",
			Help: "From an entry's proposal to its application.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		leading:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "saltpeter_cluster_leading", Help: "1 while the leader's work runs here."}),
		calls:     prometheus.NewCounterVec(opts("calls_total", "Requests to the leader sent from here, by outcome."), []string{"outcome"}),
		conns:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "saltpeter_cluster_connections", Help: "Accepted connections on the node port."}),
		refused:   prometheus.NewCounterVec(opts("refused_connections_total", "Connections refused on the node port, by reason."), []string{"reason"}),
		snapshots: prometheus.NewCounterVec(opts("snapshots_total", "Snapshots taken because of the log's size, by outcome."), []string{"outcome"}),
		leaderSeen: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "saltpeter_cluster_leader_contact_age_seconds",
			Help: "Time since this node last had contact with a leader that had a majority; -1 = never."},
			func() float64 { return contactAge().Seconds() }),
	}
	if reg == nil {
		return m, nil
	}
	return m, m.register(reg)
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.entries, m.commands, m.bytes, m.commit, m.leading, m.calls, m.conns, m.refused, m.snapshots, m.leaderSeen}
}

func (m *metrics) register(reg prometheus.Registerer) error {
	var errs []error
	for _, c := range m.all() {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}

// unregister makes room for the node's next life in the same process.
func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.all() {
		reg.Unregister(c)
	}
}

// entry counts one entry's outcome.
func (m *metrics) entry(f *flight, err error) {
	m.entries.WithLabelValues(outcomeLabel(err)).Inc()
	if err != nil {
		return
	}
	for _, item := range f.items {
		m.commands.Add(float64(len(item.cmds)))
	}
	m.bytes.Add(float64(f.size))
	m.commit.Observe(time.Since(f.sent).Seconds())
}

// outcomeLabel is one of a few words for an error.
func outcomeLabel(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrUnknown):
		return "unknown"
	case errors.Is(err, ErrNotLeader):
		return "not_leader"
	default:
		return "failed"
	}
}
