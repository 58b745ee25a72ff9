package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/syscollective/saltpeter"
)

// maxScan bounds how many records one page looks at; a filter that lets few pass then needs more pages.
const maxScan = 100_000

func runWords() (words []string) {
	for s := saltpeter.RunClaimed; s <= saltpeter.RunNoTargets; s++ {
		words = append(words, s.String())
	}
	return words
}

func targetWords() (words []string) {
	for _, s := range saltpeter.TargetStates() {
		words = append(words, s.String())
	}
	return words
}

// listRuns lists runs, newest first: of all jobs, or of the job in the path or in the query.
func (c *call) listRuns() error {
	limit, err := c.params.limit()
	if err != nil {
		return err
	}
	before, err := decodeNumber(cursorRuns, c.params["cursor"], 64)
	if err != nil {
		return err
	}
	passes, err := states(c.params, saltpeter.ParseRunState, runWords())
	if err != nil {
		return err
	}
	job, byJob := c.params["job"]
	if name := c.r.PathValue("job"); name != "" {
		job, byJob = name, true
	}
	return c.watch(func(v View) (any, error) {
		page := textPage{index: v.Index()}
		scanned, last := 0, uint64(0)
		var err error
		take := func(r *saltpeter.Run) bool {
			if len(page.items) == limit || scanned == maxScan {
				page.next = numberCursor(cursorRuns, last)
				return false
			}
			scanned, last = scanned+1, r.Num
			if passes(r.State) {
				var item *text
				item, err = c.s.runText(r)
				page.items = append(page.items, item)
			}
			return err == nil
		}
		if byJob {
			v.RunsOfJob(job, before, take)
		} else {
			v.Runs(before, take)
		}
		return page, err
	})
}

// run reads the run that the path names.
func (c *call) run(v View) (*saltpeter.Run, error) {
	id := c.r.PathValue("run")
	r, ok := v.RunByID(id)
	if !ok {
		return nil, saltpeter.Errorf(saltpeter.CodeNotFound, "run %q not found", id).
			WithHint("see GET /api/v1/runs; old runs are dropped by history_age and history_runs")
	}
	return r, nil
}

func (c *call) getRun() error {
	return c.watch(func(v View) (any, error) {
		r, err := c.run(v)
		if err != nil {
			return nil, err
		}
		return runOf(r), nil
	})
}

func (c *call) listMachines() error {
	limit, err := c.params.limit()
	if err != nil {
		return err
	}
	from, err := decodeNumber(cursorMachines, c.params["cursor"], 32)
	if err != nil {
		return err
	}
	passes, err := states(c.params, saltpeter.ParseTargetState, targetWords())
	if err != nil {
		return err
	}
	return c.watch(func(v View) (any, error) {
		r, err := c.run(v)
		if err != nil {
			return nil, err
		}
		page := Page[Machine]{Items: []Machine{}, Index: v.Index()}
		v.TargetsOf(r.Num, uint32(from), func(t saltpeter.Target) bool {
			if !passes(t.State) {
				return true
			}
			if len(page.Items) == limit {
				page.NextCursor = numberCursor(cursorMachines, uint64(t.Ref.Target))
				return false
			}
			page.Items = append(page.Items, machineOf(&t))
			return true
		})
		return page, nil
	})
}

// target reads the machine of a run that the path names.
func (c *call) target(v View) (*saltpeter.Run, saltpeter.Target, error) {
	r, err := c.run(v)
	if err != nil {
		return nil, saltpeter.Target{}, err
	}
	name := c.r.PathValue("machine")
	t, ok := v.FindTarget(r.Num, name)
	if !ok {
		return nil, t, noMachine(r, name)
	}
	return r, t, nil
}

func noMachine(r *saltpeter.Run, name string) error {
	e := saltpeter.Errorf(saltpeter.CodeNotFound, "machine %q is not in run %s", name, r.ID)
	if r.State == saltpeter.RunClaimed {
		return e.WithHint("the machines of the run are not known yet")
	}
	return e.WithHint("see GET /api/v1/runs/{run}/machines")
}

func (c *call) getMachine() error {
	v, err := c.view()
	if err != nil {
		return err
	}
	_, t, err := c.target(v)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, machineOf(&t))
}

// startRun claims a run by hand.
func (c *call) startRun() error {
	req := saltpeter.StartRequest{Job: c.r.PathValue("job")}
	err := c.body(fields{"note": &req.Note, "machines": &req.Machines, "parent": &req.Parent})
	if err != nil {
		return err
	}
	if req.Key, err = idempotencyKey(c.r.Header.Values("Idempotency-Key")); err != nil {
		return err
	}
	if err := checkText("note", req.Note, maxNote); err != nil {
		return err
	}
	if err := checkText("parent", req.Parent, maxNote); err != nil {
		return err
	}
	if req.Machines, err = checkMachines(req.Machines); err != nil {
		return err
	}
	run, err := c.s.node.Start(c.r.Context(), c.by, req)
	if err != nil {
		return err
	}
	if _, err := c.local(); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/api/v1/runs/"+PathEscape(run.ID))
	return c.reply(http.StatusCreated, runOf(run))
}

// idempotencyKey reads the header, with or without the quotes of a structured field.
func idempotencyKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	printable := !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
	if len(values) > 1 || key == "" || len(key) > maxKey || !printable {
		return "", saltpeter.Errorf(saltpeter.CodeInvalid, "the Idempotency-Key header is not usable").
			WithHint("give it once, with 1 to %d printable ASCII characters without spaces", maxKey)
	}
	return key, nil
}

// Killed is the answer to a kill.
type Killed struct {
	Run    string `json:"run"`
	Killed int    `json:"killed"` // machines that were marked
}

// killRun kills a run, or the machines of it that the body names.
func (c *call) killRun() error {
	var machines []string
	if err := c.body(fields{"machines": &machines}); err != nil {
		return err
	}
	named := machines != nil
	machines, err := checkMachines(machines)
	if err != nil {
		return err
	}
	if named && len(machines) == 0 {
		return fieldError("machines", "is empty", "leave it out to kill all machines of the run")
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	r, err := c.run(v)
	if err != nil {
		return err
	}
	for _, m := range machines {
		if _, ok := v.FindTarget(r.Num, m); !ok {
			return noMachine(r, m)
		}
	}
	return c.kill(r, machines)
}

func (c *call) killMachine() error {
	if err := c.body(nil); err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	r, t, err := c.target(v)
	if err != nil {
		return err
	}
	return c.kill(r, []string{t.Machine})
}

func (c *call) kill(r *saltpeter.Run, machines []string) error {
	n, err := c.s.node.Kill(c.r.Context(), c.by, r.Num, slices.Clip(machines))
	if err != nil {
		return err
	}
	if _, err := c.local(); err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, Killed{Run: r.ID, Killed: n})
}
