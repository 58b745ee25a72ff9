package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
	"github.com/syscollective/saltpeter/launcher/local"
	"github.com/syscollective/saltpeter/wsgateway"
)

// proofs verifies machines as the settings in force say, whatever a wrapper offers.
type proofs struct {
	settings func() *saltpeter.Settings
	barrier  func(context.Context) error // after it the record is as new as the leader's
	kinds    map[proofKind]wsgateway.Identity
}

// proofKind is how machines prove who they are.
type proofKind string

const byToken proofKind = "token"

// proofKindOf tells which proof settings ask for. Machines that a node's host plays have key files and no Salt keys.
func proofKindOf(set *saltpeter.Settings) proofKind {
	switch {
	case set.WrapperIdentity == saltpeter.IdentityToken:
		return byToken
	case set.Launcher == saltpeter.LauncherLocal:
		return wire.ProofFileKey
	}
	return wire.ProofSaltKey
}

func (a *App) proofs() wsgateway.Identity {
	if a.opts.Seams.Identity != nil {
		return a.opts.Seams.Identity
	}
	return &proofs{
		settings: func() *saltpeter.Settings { return a.machine.View().Settings() },
		barrier:  func(ctx context.Context) error { _, err := a.node.Barrier(ctx); return err },
		kinds: map[proofKind]wsgateway.Identity{
			byToken:           wsgateway.AnyMachine{},
			wire.ProofFileKey: wsgateway.NewFileKeys(local.KeysDir(a.localBase(), a.ident.ClusterID)),
			wire.ProofSaltKey: wsgateway.NewSaltKeys(a.saltKey, 0),
		},
	}
}

// Verify implements wsgateway.Identity. A refusal is final for a wrapper, so it is only given under settings that are as new as the
// leader's: this node's may be from before the launch.
func (p *proofs) Verify(ctx context.Context, machine string, proof *wire.Proof, transcript []byte) error {
	before := p.inForce()
	err := p.kinds[before].Verify(ctx, machine, proof, transcript)
	if !errors.Is(err, wsgateway.ErrIdentityRefused) {
		return err
	}
	if behind := p.barrier(ctx); behind != nil {
		return fmt.Errorf("%w: settings may be older than the launch: %w", wsgateway.ErrIdentityUnavailable, behind)
	}
	if now := p.inForce(); now != before {
		return p.kinds[now].Verify(ctx, machine, proof, transcript)
	}
	return err
}

func (p *proofs) inForce() proofKind { return proofKindOf(p.settings()) }

// saltKey gives the public key that a Salt master has accepted for a minion: this host's, or another node's.
func (a *App) saltKey(ctx context.Context, machine string) ([]byte, error) {
	if a.opts.Seams.SaltKey != nil {
		return a.opts.Seams.SaltKey(ctx, machine)
	}
	return a.masters.Key(ctx, machine)
}
