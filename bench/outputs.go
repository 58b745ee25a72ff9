package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	outputTargets = 2048
	outputEach    = 1 << 20
)

// outputs measures the restart of a node that holds 2 GiB of output.
func outputs(ctx context.Context, b *bench) error {
	empty, err := b.emptyRestart(ctx)
	if err != nil {
		return err
	}
	more := append([]string{"output_total: 4GiB"}, patient...)
	n, err := b.node(ctx, "outlog", settings(outputTargets, more...)+"job: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'true'}\n", 1, rig.PublishAnswer, outputEach)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := n.Ask("start", "job", nil); err != nil {
		return n.explain(err)
	}
	if err := n.until(ctx, "the output", func(s rig.State) bool { return s.Targets == outputTargets && s.Unfinished == 0 }); err != nil {
		return err
	}
	took := time.Since(began)
	s, err := n.state()
	if err != nil {
		return err
	}
	size, read, err := readAll(filepath.Join(n.dir, "data", "segments", "output"))
	if err != nil {
		return err
	}
	b.table.add(row{what: "output stored, without gateway", figure: mib(float64(size)/took.Seconds()) + "/s"})
	b.table.add(row{what: "  in segments", figure: mib(float64(size)), limit: ms(read) + " (to read them)"})
	b.snapshotRows(s.Snapshots)
	return b.restartRows(ctx, n, empty, mib(float64(size))+" of output", func(s rig.State) bool { return s.Targets == outputTargets })
}

// readAll reads the files of a directory and gives their bytes and the time it took.
func readAll(dir string) (size int64, took time.Duration, err error) {
	began := time.Now()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return 0, 0, err
		}
		n, err := io.Copy(io.Discard, f)
		f.Close()
		if err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", e.Name(), err)
		}
		size += n
	}
	return size, time.Since(began), nil
}
