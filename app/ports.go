package app

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/wsgateway"
)

// openNodePort opens the port between nodes. A node that is alone, or was removed, has none to talk to and keeps it closed
// to others: it listens on an address of the loopback that nobody is told.
func (a *App) openNodePort(cfg *cluster.Config) error {
	cfg.Dial = a.opts.Seams.Dial
	if cfg.Dial == nil {
		var d net.Dialer
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	addr, closed := "127.0.0.1:0", true
	for _, p := range a.opts.Peers {
		if p.ID == cfg.ID {
			addr, cfg.Advertise, closed = p.Addr, p.Addr, false
		}
	}
	switch s := a.ident.standing(); {
	case s == removed:
		cfg.Dial = func(context.Context, string) (net.Conn, error) { return nil, errRemoved }
	case s != alone:
		advertise, err := a.opts.Node.AdvertiseNode(net.LookupHost)
		if err != nil {
			return err
		}
		addr, cfg.Advertise, closed = a.listen.Node, advertise, false
		cfg.Wait = !a.ident.Found
	}
	ln, err := a.listenTCP("node", addr)
	if err != nil {
		return fmt.Errorf("open node port: %w", err)
	}
	cfg.Listener = ln
	if closed {
		return nil
	}
	if cfg.TLS, err = a.ring.NodeTLS(cfg.ID); err != nil {
		return errors.Join(fmt.Errorf("make node certificates: %w", err), ln.Close())
	}
	return nil
}

// listenTCP opens a port; what is "node", "api" or "wrapper". A test may give none, which is then not served.
func (a *App) listenTCP(what, addr string) (net.Listener, error) {
	if a.opts.Seams.Listen != nil {
		return a.opts.Seams.Listen(what, addr)
	}
	return net.Listen("tcp", addr)
}

// openPorts opens the ports of API and gateway, where this node's files and flags say.
func (a *App) openPorts() error {
	if err := a.openAPI(); err != nil {
		return err
	}
	if a.serves() {
		var err error
		if a.listeners.wrapper, err = a.listenTCP("wrapper", a.listen.Wrapper); err != nil {
			return fmt.Errorf("open wrapper port: %w", err)
		}
	}
	return a.openGateway()
}

func (a *App) openAPI() error {
	for _, addr := range a.listen.API {
		ln, err := a.listenTCP("api", addr)
		if err != nil {
			return fmt.Errorf("open API port: %w", err)
		}
		if ln != nil {
			a.listeners.api = append(a.listeners.api, ln)
		}
	}
	var err error
	if a.opts.Seams.Listen == nil {
		if a.listeners.socket, err = listenSocket(a.listen.Socket, groupID()); err != nil {
			return err
		}
	}
	a.api, err = api.New(api.Config{Node: control{a}, Cluster: members{a}, Reach: reach{a}, Backups: backups{a}, Log: a.log.With("component", "api"), Socket: a.listen.Socket, Group: groupID(), Now: a.wall,
		Metrics: promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{})})
	return err
}

func (a *App) openGateway() error {
	tls, err := a.ring.WrapperTLS()
	if err != nil {
		return fmt.Errorf("make wrapper certificates: %w", err)
	}
	cfg := wsgateway.Config{
		Cluster: a.ident.ClusterID, Node: a.opts.Node.Name, TLS: tls, Leader: leaderLink{a}, Contact: a.node.LeaderContact,
		Tokens: tokens{a}, Identity: a.proofs(),
		Log: a.log, Registerer: a.registry,
	}
	if a.opts.Seams.Gateway != nil {
		a.opts.Seams.Gateway(&cfg)
	}
	a.gateway = wsgateway.New(cfg)
	return nil
}
