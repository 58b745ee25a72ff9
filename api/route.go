package api

import (
	"maps"
	"net/http"
	"slices"
)

// route is one method of a resource.
type route struct {
	handle handler
	params []string // query parameters beside the common ones
	access access
	stream bool // it may take long: the handler bounds it itself
}

// access says who may use a route.
type access int

const (
	accessWrite access = iota // default: changes the record
	accessRead
	accessOpen // health and the like: tells nothing
)

// routes lists all resources by pattern and method. ServeMux matches the escaped path segment by segment and unescapes
// each, so that a name may hold a slash as %2F.
func (s *Server) routes() map[string]map[string]route {
	const v1 = "/api/v1/"
	page := func(more ...string) []string { return append([]string{"limit", "cursor"}, more...) }
	get := func(h handler, params ...string) map[string]route {
		return map[string]route{http.MethodGet: {handle: h, params: params, access: accessRead}}
	}
	post := func(h handler) map[string]route { return map[string]route{http.MethodPost: {handle: h}} }
	open := func(h handler, params ...string) map[string]route {
		return map[string]route{http.MethodGet: {handle: h, params: params, access: accessOpen}}
	}
	windows := map[string]route{
		http.MethodGet:    {handle: (*call).getWindows, params: []string{"all"}, access: accessRead},
		http.MethodPut:    {handle: (*call).putWindow},
		http.MethodDelete: {handle: (*call).deleteWindow},
	}
	routes := map[string]map[string]route{
		v1 + "status":            get((*call).getStatus),
		v1 + "version":           get((*call).getVersion),
		v1 + "jobs":              get((*call).listJobs, page("group")...),
		v1 + "jobs/{job}":        get((*call).getJob),
		v1 + "jobs/{job}/skips":  get((*call).listSkips, page()...),
		v1 + "jobs/{job}/next":   get((*call).nextTicks, "n", "after"),
		v1 + "jobs/{job}/runs":   {http.MethodPost: {handle: (*call).startRun}, http.MethodGet: {handle: (*call).listRuns, params: page("state"), access: accessRead}},
		v1 + "jobs/{job}/pause":  post((*call).pauseJob),
		v1 + "jobs/{job}/resume": post((*call).resumeJob),
		v1 + "runs":              get((*call).listRuns, page("job", "state")...),
		v1 + "runs/{run}":        {http.MethodGet: {handle: (*call).getRun, params: []string{"wait"}, access: accessRead, stream: true}},
		v1 + "runs/{run}/kill":   post((*call).killRun),

		v1 + "runs/{run}/machines":                get((*call).listMachines, page("state")...),
		v1 + "runs/{run}/machines/{machine}":      get((*call).getMachine),
		v1 + "runs/{run}/machines/{machine}/kill": post((*call).killMachine),
		v1 + "runs/{run}/machines/{machine}/output": {http.MethodGet: {
			handle: (*call).getOutput, params: []string{"format", "offset", "limit", "follow"}, access: accessRead, stream: true,
		}},

		v1 + "maintenance":                windows,
		v1 + "maintenance/{scope}":        windows,
		v1 + "maintenance/{scope}/{name}": windows,
		v1 + "schedule/explain":           {http.MethodPost: {handle: (*call).explain, access: accessRead}},

		"/healthz": open((*call).healthz),
		"/readyz":  open((*call).readyz, "verbose"),
		"/leader":  open((*call).leader),
	}
	if s.metrics != nil {
		routes["/metrics"] = get((*call).serveMetrics)
	}
	return routes
}

// allowedMethods lists the methods of a resource for the Allow header.
func allowedMethods(methods map[string]route) []string {
	allowed := slices.Collect(maps.Keys(methods))
	if _, ok := methods[http.MethodGet]; ok {
		allowed = append(allowed, http.MethodHead)
	}
	allowed = append(allowed, http.MethodOptions)
	slices.Sort(allowed)
	return allowed
}
