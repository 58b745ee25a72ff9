package cluster

import (
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/raft"
)

// brokenStable is a stable store whose writes can be made to fail.
type brokenStable struct {
	raft.StableStore
	fail atomic.Bool
}

func (b *brokenStable) Set(key, value []byte) error {
	if b.fail.Load() {
		return syscall.EIO
	}
	return b.StableStore.Set(key, value)
}
