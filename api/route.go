package api

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/syscollective/saltpeter"
)

// route is one method of a resource.
type route struct {
	handle handler
	params []string // query parameters beside the common ones
	access access
	stream bool // it may take long: the handler bounds it itself
}

// open lists the resources outside /api by path.
func (s *Server) open() map[string]map[string]route {
	get := func(h handler, access access, params ...string) map[string]route {
		return map[string]route{http.MethodGet: {handle: h, params: params, access: access}}
	}
	routes := map[string]map[string]route{
		"/healthz": get((*call).healthz, accessOpen, "verbose"),
		"/readyz":  get((*call).readyz, accessOpen, "verbose", "max_lag"),
		"/leader":  get((*call).leader, accessOpen, "verbose"),
	}
	if s.metrics != nil {
		routes["/metrics"] = get((*call).serveMetrics, accessRead)
	}
	return routes
}

// routes lists the resources under /api/v1 by pattern and method.
func (s *Server) routes() map[string]map[string]route {
	// watched is what can be waited for.
	watched := func(h handler, params ...string) route {
		return route{handle: h, params: append(params, waitParams...), access: accessRead, stream: true}
	}
	page := func(h handler, more ...string) map[string]route {
		return map[string]route{http.MethodGet: watched(h, append([]string{"limit", "cursor"}, more...)...)}
	}
	get := func(h handler, params ...string) map[string]route {
		return map[string]route{http.MethodGet: {handle: h, params: params, access: accessRead}}
	}
	post := func(h handler, access access) map[string]route {
		return map[string]route{http.MethodPost: {handle: h, access: access}}
	}
	windows := map[string]route{
		http.MethodGet:    watched((*call).getWindows, "all"),
		http.MethodPut:    {handle: (*call).putWindow, access: accessMaintenance},
		http.MethodDelete: {handle: (*call).deleteWindow, access: accessMaintenance},
	}
	return map[string]map[string]route{
		"status":                     get((*call).getStatus),
		"version":                    get((*call).getVersion),
		"schedule/explain":           {http.MethodPost: {handle: (*call).explain, access: accessRead}},
		"maintenance":                windows,
		"maintenance/{scope}":        windows,
		"maintenance/{scope}/{name}": windows,

		"jobs":              page((*call).listJobs, "group"),
		"jobs/{job}":        {http.MethodGet: watched((*call).getJob)},
		"jobs/{job}/skips":  page((*call).listSkips),
		"jobs/{job}/next":   get((*call).nextTicks, "n", "after"),
		"jobs/{job}/pause":  post((*call).pauseJob, accessMaintenance),
		"jobs/{job}/resume": post((*call).resumeJob, accessMaintenance),
		"jobs/{job}/runs": {
			http.MethodPost: {handle: (*call).startRun, access: accessStart},
			http.MethodGet:  page((*call).listRuns, "state")[http.MethodGet],
		},

		"runs":            page((*call).listRuns, "job", "state"),
		"runs/{run}":      {http.MethodGet: watched((*call).getRun)},
		"runs/{run}/kill": post((*call).killRun, accessKill),

		"runs/{run}/machines":                page((*call).listMachines, "state"),
		"runs/{run}/machines/{machine}":      get((*call).getMachine),
		"runs/{run}/machines/{machine}/kill": post((*call).killMachine, accessKill),
		"runs/{run}/machines/{machine}/output": {http.MethodGet: {
			handle: (*call).getOutput, params: []string{"format", "offset", "limit", "follow"}, access: accessRead, stream: true,
		}},

		"events": {http.MethodGet: {handle: (*call).getEvents, params: []string{"topics", "since", "follow"}, access: accessRead, stream: true}},
	}
}

// router finds resources by the escaped path, segment by segment, and unescapes each segment by itself: a name may
// hold anything. ServeMux does the same but for a name that is a single slash.
type router struct {
	bySize map[int][]resource // by number of segments
}

type resource struct {
	segments []string // a name in braces stands for any segment that is not empty
	methods  map[string]route
}

func newRouter(routes map[string]map[string]route) *router {
	rt := &router{bySize: map[int][]resource{}}
	for pattern, methods := range routes {
		segments := strings.Split(pattern, "/")
		rt.bySize[len(segments)] = append(rt.bySize[len(segments)], resource{segments, methods})
	}
	return rt
}

// find gives the methods of the resource that a request is for, and sets its path values.
func (rt *router) find(r *http.Request) (map[string]route, error) {
	path := r.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(path, "/api/v1/"); ok {
		given := strings.Split(rest, "/")
		for _, res := range rt.bySize[len(given)] {
			if res.match(r, given) {
				return res.methods, nil
			}
		}
	}
	return nil, saltpeter.Errorf(saltpeter.CodeNotFound, "there is no %s", path).
		WithHint("the API is under /api/v1: status, cluster, jobs, runs, maintenance, schedule/explain, tokens, auth/me, version; a slash in a name is written %%2F")
}

func (res *resource) match(r *http.Request, given []string) bool {
	for i, want := range res.segments {
		name, wild := strings.CutPrefix(want, "{")
		if !wild && want != given[i] {
			return false
		}
		if !wild {
			continue
		}
		value, err := url.PathUnescape(given[i])
		if err != nil || value == "" {
			return false
		}
		r.SetPathValue(strings.TrimSuffix(name, "}"), value)
	}
	return true
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
