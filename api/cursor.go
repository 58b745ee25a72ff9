package api

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/syscollective/saltpeter"
)

// A cursor is the key of the last item of a page, with a letter for the list that it belongs to. It is opaque to
// clients and stays good while items are added or dropped, on every node.
const (
	cursorJobs     = 'j' // name
	cursorRuns     = 'r' // number
	cursorMachines = 'm' // next position in the run
	cursorSkips    = 's' // first tick
)

func encodeCursor(list byte, key string) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{list}, key...))
}

func numberCursor(list byte, n uint64) string {
	return encodeCursor(list, strconv.FormatUint(n, 10))
}

// decodeCursor gives the key; an empty cursor gives an empty key.
func decodeCursor(list byte, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) < 2 || raw[0] != list || !utf8.Valid(raw) {
		return "", badCursor(cursor)
	}
	return string(raw[1:]), nil
}

// decodeNumber gives the number in a cursor, 0 for an empty one.
func decodeNumber(list byte, cursor string, bits int) (uint64, error) {
	key, err := decodeCursor(list, cursor)
	if err != nil || key == "" {
		return 0, err
	}
	n, err := strconv.ParseUint(key, 10, bits)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != key {
		return 0, badCursor(cursor)
	}
	return n, nil
}

func badCursor(cursor string) error {
	return saltpeter.Errorf(saltpeter.CodeInvalid, "cursor %q is not one of this list", cursor).
		WithHint("use next_cursor of the page before, unchanged, or leave it out")
}
