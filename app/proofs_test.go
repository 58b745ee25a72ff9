package app

import (
	"context"
	"errors"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
	"github.com/syscollective/saltpeter/wsgateway"
)

// takes is an Identity that takes proofs of its kind.
type takes string

func (k takes) Verify(_ context.Context, _ string, proof *wire.Proof, _ []byte) error {
	if proof == nil || proof.Kind != string(k) {
		return wsgateway.ErrIdentityRefused
	}
	return nil
}

func proofsUnder(set *saltpeter.Settings, barrier func(context.Context) error) *proofs {
	return &proofs{settings: func() *saltpeter.Settings { return set }, barrier: barrier, kinds: map[proofKind]wsgateway.Identity{
		byToken: wsgateway.AnyMachine{}, wire.ProofFileKey: takes(wire.ProofFileKey), wire.ProofSaltKey: takes(wire.ProofSaltKey),
	}}
}

// The settings decide which proof is asked for; what the wrapper offers decides nothing.
func TestSettingsDecideTheProof(t *testing.T) {
	fine := func(context.Context) error { return nil }
	for _, c := range []struct{ launcher, identity, proof string }{
		{"salt", "salt-key", wire.ProofSaltKey},
		{"local", "salt-key", wire.ProofFileKey},
		{"salt", "token", ""},
		{"local", "token", ""},
	} {
		set := saltpeter.Settings{Launcher: c.launcher, WrapperIdentity: c.identity}
		for _, offered := range []*wire.Proof{nil, {Kind: wire.ProofFileKey}, {Kind: wire.ProofSaltKey}, {Kind: "token"}} {
			err := proofsUnder(&set, fine).Verify(t.Context(), "m", offered, nil)
			if right := c.proof == "" || offered != nil && offered.Kind == c.proof; right != (err == nil) || !right && !errors.Is(err, wsgateway.ErrIdentityRefused) {
				t.Errorf("launcher %s, wrapper_identity %s, offered %+v: %v", c.launcher, c.identity, offered, err)
			}
		}
	}
	if set := saltpeter.DefaultSettings(); proofKindOf(&set) != wire.ProofSaltKey {
		t.Error("the default is not the Salt key")
	}
}

// A node whose settings are from before the launch refuses nothing by them.
func TestProofsAreRefusedUnderNewSettingsOnly(t *testing.T) {
	set := saltpeter.Settings{Launcher: "local", WrapperIdentity: "salt-key"}
	proof := &wire.Proof{Kind: wire.ProofSaltKey}
	cut := errors.New("cut off")
	if err := proofsUnder(&set, func(context.Context) error { return cut }).Verify(t.Context(), "m", proof, nil); !errors.Is(err, wsgateway.ErrIdentityUnavailable) || !errors.Is(err, cut) {
		t.Errorf("cut off from the leader: %v", err)
	}
	catchUp := func(context.Context) error { set.Launcher = "salt"; return nil }
	if err := proofsUnder(&set, catchUp).Verify(t.Context(), "m", proof, nil); err != nil {
		t.Errorf("behind: %v", err)
	}
	if err := proofsUnder(&set, catchUp).Verify(t.Context(), "m", &wire.Proof{Kind: wire.ProofFileKey}, nil); !errors.Is(err, wsgateway.ErrIdentityRefused) {
		t.Errorf("a kind that is asked for no more: %v", err)
	}
}
