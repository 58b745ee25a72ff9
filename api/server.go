package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"
	"weak"

	"github.com/syscollective/saltpeter"
)

// Origin says through which listener a request came; it decides what needs no token.
type Origin int

// The origins.
const (
	OriginSocket  Origin = iota + 1 // the unix socket: root and the group are admin
	OriginNetwork                   // TCP, loopback included
)

// Limits of the server.
const (
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 30 * time.Second
	answerTimeout  = time.Minute // of what is not a stream
	callTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	stopTimeout    = 5 * time.Second
	maxHeader      = 64 << 10
	defaultStreams = 512
)

// Config is what a Server is made of. Node is required.
type Config struct {
	Node Node
	// Cluster serves what is about members; nil leaves it out.
	Cluster Membership
	// Reach serves what is about the way to machines; nil leaves it out.
	Reach Reach
	// Backups saves and restores the record; nil leaves it out.
	Backups Backups
	// Log takes what goes wrong inside; nil discards it.
	Log *slog.Logger
	// Metrics serves /metrics; nil leaves it out.
	Metrics http.Handler
	// Socket is the path of the unix socket, for hints.
	Socket string
	// Group is the id of the group whose members are admin over the socket, as root and the user of this process are; 0 for
	// none.
	Group int
	// Now is the clock that maintenance windows and next ticks are computed with; nil is time.Now.
	Now func() time.Time
	// MaxStreams bounds how many requests may follow something at a time; 0 is 512.
	MaxStreams int
}

// Server is the HTTP API of one node.
type Server struct {
	node    Node
	members Membership
	reach   Reach
	backups Backups
	log     *slog.Logger
	metrics http.Handler
	socket  string
	group   int
	now     func() time.Time
	streams chan struct{} // one token for each request that may follow

	writes   *pacer // of principals
	failures *pacer // of addresses
	refused  *refusals

	schedules schedules
	jobTexts  texts[string, jobKey]
	runTexts  texts[uint64, weak.Pointer[saltpeter.Run]]
}

// New gives a server; it starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Node == nil {
		return nil, errors.New("make api: no node")
	}
	s := &Server{
		node: cfg.Node, members: cfg.Cluster, reach: cfg.Reach, backups: cfg.Backups, log: cfg.Log, metrics: cfg.Metrics, socket: cfg.Socket, group: cfg.Group, now: cfg.Now,
		writes: newPacer(time.Second/writeRate, writeBurst), failures: newPacer(failEvery, failBurst),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.refused = &refusals{log: s.log, pace: newPacer(refusedEvery, refusedBurst)}
	if s.now == nil {
		s.now = time.Now
	}
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = defaultStreams
	}
	s.streams = make(chan struct{}, cfg.MaxStreams)
	return s, nil
}

// Serve answers requests on ln until ctx ends, then lets those in progress finish for 5 s; streams end at once. It
// closes ln and returns nil when it was ended by ctx.
func (s *Server) Serve(ctx context.Context, ln net.Listener, origin Origin) error {
	base, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), stopKey{}, ctx))
	defer cancel()
	srv := &http.Server{
		Handler:           s.Handler(origin),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       s.withPeer,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	silent := new(silent)
	srv.ConnState = silent.note
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Serve(ln) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	silent.close()
	late, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer done()
	if err := srv.Shutdown(late); err != nil {
		s.log.Warn("requests were cut off", "err", err)
		if err := srv.Close(); err != nil {
			s.log.Debug("close server", "err", err)
		}
	}
	if err := <-stopped; !errors.Is(err, http.ErrServerClosed) {
		s.log.Warn("listener", "err", err)
	}
	return nil
}

type stopKey struct{}

// stopping gives the channel that is closed when the server is about to stop; nil, which never is, outside Serve.
func (c *call) stopping() <-chan struct{} {
	if life, ok := c.r.Context().Value(stopKey{}).(context.Context); ok {
		return life.Done()
	}
	return nil
}

// Handler gives the API as it is for requests from origin.
func (s *Server) Handler(origin Origin) http.Handler {
	mux := http.NewServeMux()
	for path, methods := range s.open() {
		mux.Handle(path, s.endpoint(origin, func(*http.Request) (map[string]route, error) { return methods, nil }))
	}
	routes := s.routes()
	maps.Copy(routes, s.clusterRoutes())
	maps.Copy(routes, s.reachRoutes())
	maps.Copy(routes, s.accessRoutes())
	maps.Copy(routes, s.snapshotRoutes())
	router := newRouter(routes)
	mux.Handle("/", s.endpoint(origin, router.find))
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := s.call(w, r, origin)
		err := saltpeter.Errorf(saltpeter.CodeForbidden, "a page of another origin may not change anything here")
		s.refused.note(r.Context(), c, err)
		c.fail(err)
	}))
	return cross.Handler(mux)
}

// call prepares a request: who asks, under which id.
func (s *Server) call(w http.ResponseWriter, r *http.Request, origin Origin) *call {
	c := &call{s: s, w: w, r: r, by: saltpeter.Actor{Request: requestID(r)}}
	c.by.Name, c.by.Origin = whence(r, origin)
	h := w.Header()
	h.Set("X-Request-Id", c.by.Request)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	return c
}

// endpoint serves what find gives: it picks the method, checks access and turns errors into problems.
func (s *Server) endpoint(origin Origin, find func(*http.Request) (map[string]route, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := s.call(w, r, origin)
		methods, err := find(r)
		if err != nil {
			c.fail(err)
			return
		}
		rt, ok := methods[method(r)]
		if !ok {
			c.wrongMethod(methods)
			return
		}
		if err := c.serve(rt, origin); err != nil {
			c.fail(err)
		}
	})
}

func method(r *http.Request) string {
	if r.Method == http.MethodHead {
		return http.MethodGet
	}
	return r.Method
}

func (c *call) serve(rt route, origin Origin) error {
	if err := c.admit(rt, origin); err != nil {
		return err
	}
	var err error
	if c.params, err = parseQuery(c.r.URL.RawQuery, rt.params); err != nil {
		return err
	}
	if !rt.stream {
		ctx, cancel := context.WithTimeout(c.r.Context(), callTimeout)
		defer cancel()
		c.r = c.r.WithContext(ctx)
	}
	return rt.handle(c)
}

// wrongMethod answers OPTIONS, and everything that the resource does not have.
func (c *call) wrongMethod(methods map[string]route) {
	allowed := allowedMethods(methods)
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	if c.r.Method == http.MethodOptions {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.fail(&statusError{http.StatusMethodNotAllowed, saltpeter.Errorf(saltpeter.CodeInvalid, "%s is not for %s", c.r.Method, c.r.URL.EscapedPath()).
		WithHint("allowed: %s", strings.Join(allowed, ", "))})
}

// stream reserves a place among the requests that follow something, and lifts the deadlines that are made for short
// answers. The caller gives the place back.
func (c *call) stream() (release func(), err error) {
	select {
	case c.s.streams <- struct{}{}:
	default:
		return nil, saltpeter.Errorf(saltpeter.CodeTooMany, "%d requests follow something on this node already", cap(c.s.streams)).
			WithHint("try another node, or follow fewer machines")
	}
	rc := http.NewResponseController(c.w)
	if err := errors.Join(ignoreUnsupported(rc.SetReadDeadline(time.Time{})), ignoreUnsupported(rc.SetWriteDeadline(time.Time{}))); err != nil {
		<-c.s.streams
		return nil, fmt.Errorf("lift deadlines: %w", err)
	}
	return func() { <-c.s.streams }, nil
}

// lastWrite gives what is written after the handler of a stream, its end, time of its own.
func (c *call) lastWrite() {
	deadline := time.Now().Add(streamWrite)
	if err := http.NewResponseController(c.w).SetWriteDeadline(deadline); err != nil {
		c.s.log.Debug("client is gone", "request", c.by.Request, "err", err)
	}
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil // a recorder in a test
	}
	return err
}
