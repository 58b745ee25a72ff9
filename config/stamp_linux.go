package config

import (
	"io/fs"
	"syscall"
)

// fileStamp gives what changes when a file is written or replaced, beside size and mtime: the inode and the time of its last
// change, which no tool sets back.
func fileStamp(info fs.FileInfo) (inode uint64, changed int64) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino, st.Ctim.Nano()
	}
	return 0, 0
}
