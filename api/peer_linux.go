package api

import (
	"encoding/binary"
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel which user opened the other end of a unix socket, and which groups it was in.
func peerOf(conn syscall.Conn) (p peer, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, false
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		if cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); failed == nil {
			p.groups, failed = peerGroups(fd)
		}
	})
	if err != nil || failed != nil {
		return peer{}, false
	}
	p.uid, p.groups = cred.Uid, append(p.groups, cred.Gid)
	return p, true
}

// peerGroups gives the supplementary groups of the peer. A kernel before 4.13 doesn't tell them: then there are none.
func peerGroups(fd uintptr) ([]uint32, error) {
	buf := make([]byte, 64*4)
	for {
		size := uint32(len(buf))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			groups := make([]uint32, 0, size/4)
			for i := uint32(0); i+4 <= size; i += 4 {
				groups = append(groups, binary.NativeEndian.Uint32(buf[i:]))
			}
			return groups, nil
		case errno == unix.ERANGE && int(size) > len(buf):
			buf = make([]byte, size)
		case errors.Is(errno, unix.ENOPROTOOPT):
			return nil, nil
		default:
			return nil, errno
		}
	}
}
