package api

import (
	"net/http"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/cronexpr"
)

// maxNext bounds how many ticks one answer lists.
const maxNext = 1000

func (c *call) listJobs() error {
	limit, err := c.params.limit()
	if err != nil {
		return err
	}
	after, err := decodeCursor(cursorJobs, c.params["cursor"])
	if err != nil {
		return err
	}
	group, filtered := c.params["group"]
	return c.watch(func(v View) (any, error) {
		page := textPage{index: v.Index()}
		now, last := c.s.now(), ""
		var err error
		v.Jobs(after, func(j saltpeter.JobStatus) bool {
			if filtered && j.Job.Group != group {
				return true
			}
			if len(page.items) == limit {
				page.next = encodeCursor(cursorJobs, last)
				return false
			}
			var item *text
			item, err = c.s.jobText(&j, now)
			page.items, last = append(page.items, item), j.Job.Name
			return err == nil
		})
		return page, err
	})
}

// job reads the job that the path names.
func (c *call) job(v View) (saltpeter.JobStatus, error) {
	name := c.r.PathValue("job")
	j, ok := v.Job(name)
	if !ok {
		return j, noJob(name)
	}
	return j, nil
}

func noJob(name string) error {
	return saltpeter.Errorf(saltpeter.CodeNotFound, "job %q not found", name).WithHint("see GET /api/v1/jobs")
}

func (c *call) getJob() error {
	return c.watch(func(v View) (any, error) {
		j, err := c.job(v)
		if err != nil {
			return nil, err
		}
		shape := jobOf(&j, c.s.schedules.of(&j.Job.Schedule), c.s.now())
		shape.Written = j.Job.Written
		return shape, nil
	})
}

func (c *call) listSkips() error {
	limit, err := c.params.limit()
	if err != nil {
		return err
	}
	after, err := decodeNumber(cursorSkips, c.params["cursor"], 63)
	if err != nil {
		return err
	}
	name := c.r.PathValue("job")
	return c.watch(func(v View) (any, error) {
		skips := v.Skips(name)
		if _, known := v.Job(name); !known && len(skips) == 0 {
			return nil, noJob(name)
		}
		page := Page[Skip]{Items: []Skip{}, Index: v.Index()}
		var last int64
		for _, s := range skips {
			if s.First <= int64(after) {
				continue
			}
			if len(page.Items) == limit {
				page.NextCursor = numberCursor(cursorSkips, uint64(last))
				break
			}
			last = s.First
			page.Items = append(page.Items, Skip{Reason: s.Reason.String(), First: tick(s.First), Last: tick(s.Last), Count: s.Count, Detail: s.Detail})
		}
		return page, nil
	})
}

// nextTicks lists when a job is due next.
func (c *call) nextTicks() error {
	n, err := c.params.number("n", 10, 1, maxNext)
	if err != nil {
		return err
	}
	after, err := c.params.instant("after", c.s.now())
	if err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	j, err := c.job(v)
	if err != nil {
		return err
	}
	s := &j.Job.Schedule
	return c.reply(http.StatusOK, cronexpr.Explain(expression(s), s.Timezone, s.MatchAny, after, int(n)))
}

// explain tells what an expression means. One that is not valid is a good answer too, not a problem.
func (c *call) explain() error {
	var expr, zone, match string
	after, n := TimeOf(c.s.now()), 10
	err := c.body(fields{"expr": &expr, "timezone": &zone, "day_match": &match, "after": &after, "n": &n})
	if err != nil {
		return err
	}
	switch {
	case n < 1 || n > maxNext:
		return fieldError("n", "is out of range", "1 to 1000")
	case match != "" && match != "or" && match != "and":
		return fieldError("day_match", "is neither and nor or", "and, or")
	}
	return c.reply(http.StatusOK, Explain(expr, zone, match, after.Time(), n))
}

// Explain tells what an expression means; match is "and", "or" or, where the expression leaves no doubt, empty.
func Explain(expr, zone, match string, after time.Time, n int) cronexpr.Explanation {
	if match != "and" {
		return cronexpr.Explain(expr, zone, match == "or", after, n)
	}
	// Said in so many words, "and" settles what five and six fields leave open; the seven fields leave nothing open.
	f, s, err := cronexpr.Parse(expr, cronexpr.Options{And: true})
	if err != nil {
		return cronexpr.Explain(expr, zone, false, after, n)
	}
	e := cronexpr.Explain(expression(&saltpeter.Schedule{
		Sec: f.Sec, Min: f.Min, Hour: f.Hour, Dom: f.Dom, Mon: f.Mon, Dow: f.Dow, Year: f.Year,
	}), zone, false, after, n)
	if e.Valid {
		e.Warnings = append([]string{}, s.Warnings()...)
	}
	return e
}

func (c *call) pauseJob() error {
	var req windowRequest
	if err := c.body(fields{"reason": &req.Reason, "for": &req.For, "until": &req.Until}); err != nil {
		return err
	}
	req.Forever = req.For == 0 && req.Until == 0 // a pause may simply last until it is lifted
	return c.setWindow(saltpeter.Window{Scope: saltpeter.ScopeJob, Name: c.r.PathValue("job"), Pause: true}, req)
}

func (c *call) resumeJob() error {
	if err := c.body(nil); err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	if _, err := c.job(v); err != nil {
		return err
	}
	return c.liftWindow(saltpeter.ScopeJob, c.r.PathValue("job"), true)
}
