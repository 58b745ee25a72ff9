package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	pagesJobs    = 5000
	pagesReaders = 16
	pagesFor     = 5 * time.Second
	pagesRounds  = 3
)

// clusterPages measures pages of 50 jobs of 5,000, read on a follower, beside a handler that writes the same bytes.
func clusterPages(ctx context.Context, b *bench) error {
	var files strings.Builder
	files.WriteString(settings(1))
	for i := range pagesJobs {
		fmt.Fprintf(&files, "job-%04d: {schedule: '0 0 0 1 1 * 2099', targets: m-0, command: 'true'}\n", i)
	}
	c, err := b.cluster(ctx, "pages", clusterNodes, files.String(), pagesJobs, rig.NodeSpec{Publish: rig.PublishNobody})
	if err != nil {
		return err
	}
	lead, err := c.leader(ctx)
	if err != nil {
		return err
	}
	follower := c.nodes[0]
	if follower == lead {
		follower = c.nodes[1]
	}
	var ready rig.NodeReady
	if err := follower.Ask("ready", nil, &ready); err != nil {
		return follower.explain(err)
	}
	page := "http://" + ready.API + "/api/v1/jobs?limit=50&consistency="
	body, err := fetch(ctx, http.DefaultClient, page+"strong")
	if err != nil {
		return err
	}
	var bare string
	if _, err := b.proc(ctx, "bare-http", body, &bare, nil, nil); err != nil {
		return err
	}
	profiled := c.profiled("cluster-pages")
	ways := []string{bare, page + "stale", page + "strong"}
	rates := make([][]float64, len(ways))
	for range pagesRounds { // they take turns, so that what else the machine does meets all
		for i, url := range ways {
			rate, err := pagesPer(ctx, url)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	if err := profiled(); err != nil {
		return err
	}
	limit, stale, strong := median(rates[0]), median(rates[1]), median(rates[2])
	b.table.add(row{what: fmt.Sprintf("pages of 50 jobs (%d bytes) on a follower, stale", len(body)), figure: perSecond(stale), limit: perSecond(limit), ratio: stale / limit,
		budget: "≥ 0.5 ×", ok: stale >= limit/2})
	b.table.add(row{what: "  strong", figure: perSecond(strong), limit: perSecond(limit), ratio: strong / limit, budget: "≥ 0.2 ×", ok: strong >= limit/5})
	return c.stop()
}

// pagesPer gives how many pages per second some readers get, each with a connection that stays.
func pagesPer(ctx context.Context, url string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, pagesFor)
	defer cancel()
	tr := &http.Transport{MaxIdleConnsPerHost: pagesReaders}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	var pages atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range pagesReaders {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := fetch(ctx, c, url); err != nil {
					if ctx.Err() == nil {
						failed.Store(&err)
					}
					return
				}
				pages.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(pages.Load()) / pagesFor.Seconds(), nil
}

func fetch(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", url, resp.Status, body)
	}
	return body, err
}
