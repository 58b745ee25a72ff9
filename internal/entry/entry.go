// Package entry frames one raft log entry as a batch of opaque commands.
//
// The leader coalesces what is proposed within a millisecond or two into one entry, because an entry costs two
// syncs of the disk whatever it holds; the state machine takes it apart again. The first byte is the version of this
// framing, so that a log written by one release is read, or refused, by another. Then each command follows as its
// length (unsigned varint) and its bytes. An entry without commands is valid: barriers and the leader's tick are such.
//
// The package starts no goroutines and keeps no state.
package entry

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the framing that this release writes, the first byte of every entry.
const Version = 1

// ErrMalformed is what Split returns, wrapped, for bytes that Append did not make.
var ErrMalformed = errors.New("malformed log entry")

// Append adds cmd to the entry in dst and returns the extended slice. An empty dst begins a new entry; a nil cmd
// adds no command, so Append(nil, nil) is the entry without commands.
func Append(dst, cmd []byte) []byte {
	if len(dst) == 0 {
		dst = append(dst, Version)
	}
	if cmd == nil {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(cmd)))
	return append(dst, cmd...)
}

// Overhead is the largest number of bytes that Append adds to those of a command of n bytes.
func Overhead(n int) int {
	size := 1
	for v := uint64(n); v >= 0x80; v >>= 7 {
		size++
	}
	return size
}

// Split returns the commands of an entry in their order. The slices lie in data, which must not change while they are
// used. Its error wraps ErrMalformed.
func Split(data []byte) ([][]byte, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	if data[0] != Version {
		return nil, fmt.Errorf("%w: version %d (known: %d)", ErrMalformed, data[0], Version)
	}
	rest := data[1:]
	cmds := make([][]byte, 0, 1)
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest)
		if n <= 0 || n != Overhead(int(size)) || size > uint64(len(rest)-n) {
			return nil, fmt.Errorf("%w: length of command %d at byte %d", ErrMalformed, len(cmds), len(data)-len(rest))
		}
		end := n + int(size)
		cmds = append(cmds, rest[n:end:end])
		rest = rest[end:]
	}
	return cmds, nil
}
