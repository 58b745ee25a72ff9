package rig

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/launcher/local"
	"github.com/syscollective/saltpeter/scheduler"
)

// launcher resolves as the local launcher does and starts no wrappers.
type launcher struct {
	scheduler.Launcher
	n *node
}

func (l launcher) Publish(_ context.Context, launch *saltpeter.Launch, _ *saltpeter.Job, _ time.Duration) error {
	switch l.n.spec.Publish {
	case PublishTell:
		told, err := l.n.told(launch)
		if err != nil {
			return err
		}
		l.n.tell("launch", told)
	case PublishPlay:
		told, err := l.n.told(launch)
		if err != nil {
			return err
		}
		if f := l.n.play.Load(); f != nil {
			_, err = f.live(told)
		}
		return err
	case PublishAnswer:
		// Not under ctx: a publish is ended when every machine has claimed its start.
		l.n.running.Go(func() {
			if err := l.n.answerAll(l.n.ctx, launch); err != nil && l.n.ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "error: answer", launch.RunID, err)
			}
		})
	}
	return nil
}

// told is what a wrapper learns of its launch.
func (n *node) told(launch *saltpeter.Launch) (LaunchTold, error) {
	id := launch.ID.String()
	formed, err := n.clusterID()
	if err != nil {
		return LaunchTold{}, err
	}
	token := n.ring.StartToken(n.machine.Load().View().Epoch(), formed, id)
	return LaunchTold{Job: launch.Job, Launch: id, Token: token, Machines: launch.Machines}, nil
}

// playAs begins to play wrappers, whose machines all have one key.
func (n *node) playAs(spec FleetSpec) (any, error) {
	f := new(fleet)
	if err := f.open(spec); err != nil {
		return nil, err
	}
	n.play.Store(f)
	return nil, nil
}

// Ping: nobody answers, since there is nobody.
func (l launcher) Ping(context.Context, []string) ([]string, error) { return nil, nil }

const (
	answerers   = 512       // start claims under way at one time
	answerBatch = 512       // results in one report
	answerFrame = 16 << 10  // bytes of one piece of output
	answerBytes = 192 << 10 // of output in one report, as the gateway bounds it
)

// answerAll is what all wrappers of a launch would have said, without their network.
func (n *node) answerAll(ctx context.Context, launch *saltpeter.Launch) error {
	var g errgroup.Group
	g.SetLimit(answerers)
	for i := range launch.Machines {
		g.Go(func() error { return n.claimStart(ctx, launch, i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return n.reportAll(ctx, launch)
}

func (n *node) claimStart(ctx context.Context, launch *saltpeter.Launch, i int) error {
	ref := saltpeter.TargetRef{Run: launch.Run, Target: launch.Targets[i]}
	res, err := n.commit(ctx, cluster.High, &fsm.StartTarget{Ask: saltpeter.StartAsk{Ref: ref, Nonce: nonceOf(ref), Ask: 1,
		Sight: saltpeter.LaunchSight{Launch: launch.ID, Machine: launch.Machines[i], BootID: "boot-" + launch.Machines[i], Host: launch.Machines[i], Version: "bench"}}})
	if err != nil {
		return err
	}
	if !res.(fsm.TargetAsked).Granted {
		return fmt.Errorf("start of %+v refused: %s", ref, res.(fsm.TargetAsked).Refusal)
	}
	return nil
}

func nonceOf(ref saltpeter.TargetRef) saltpeter.Nonce {
	b := binary.BigEndian.AppendUint64(nil, ref.Run)
	return sha256.Sum256(binary.BigEndian.AppendUint32(b, ref.Target))
}

// reportAll reports output and results, in commands of the size that the gateway makes.
func (n *node) reportAll(ctx context.Context, launch *saltpeter.Launch) error {
	output := 0
	if launch.Job == WritingJob {
		output = n.spec.Output
	}
	var batch []saltpeter.Report
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := n.commit(ctx, cluster.Low, &fsm.Report{Reports: batch})
		batch = batch[:0]
		return err
	}
	frame := make([]byte, min(answerFrame, output))
	_, _ = rand.Read(frame) // never fails; output that compresses would be too kind
	for _, target := range launch.Targets {
		ref := saltpeter.TargetRef{Run: launch.Run, Target: target}
		seq := uint64(1)
		for left := output; left > 0; left -= answerBytes {
			var words []saltpeter.Word
			for sum := 0; sum < min(left, answerBytes); sum += answerFrame {
				words = append(words, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: seq, AtMillis: seq, Data: frame})
				seq++
			}
			batch = append(batch, saltpeter.Report{Ref: ref, Nonce: nonceOf(ref), Words: words})
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, saltpeter.Report{Ref: ref, Nonce: nonceOf(ref),
			Words: []saltpeter.Word{{Kind: saltpeter.WordStarted}, {Kind: saltpeter.WordResult, Seq: seq}}})
		if len(batch) == answerBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// commit proposes a command until its outcome is known.
func (n *node) commit(ctx context.Context, prio cluster.Priority, c fsm.Command) (any, error) {
	b, err := fsm.Encode(n.env(), c)
	if err != nil {
		return nil, err
	}
	for {
		res, err := n.cnode.Load().Propose(ctx, prio, b)
		if err == nil {
			if r, refused := res.Value.(*fsm.Refusal); refused {
				return nil, r.AsError()
			}
			return res.Value, nil
		}
		if !errors.Is(err, cluster.ErrUnknown) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// accept makes one key the accepted one of machines m-0 … m-(n-1) and gives its seed, for the fleet that plays them.
func (n *node) accept(machines int) (any, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	formed, err := n.clusterID()
	if err != nil {
		return nil, err
	}
	dir := local.KeysDir(filepath.Join(cmp.Or(n.spec.Shared, n.spec.Dir), "machines"), formed)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	first := filepath.Join(dir, Machine(0)+".pub.pem")
	if err := os.WriteFile(first, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	for i := 1; i < machines; i++ {
		if err := os.Link(first, filepath.Join(dir, Machine(i)+".pub.pem")); err != nil {
			return nil, err
		}
	}
	return private.Seed(), nil
}

// Machine gives the name of a machine.
func Machine(i int) string { return fmt.Sprintf("m-%d", i) }
