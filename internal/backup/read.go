package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Read reads a whole backup and checks it. Each part of the record and of output is given to visit, which may be nil, in
// the file's order; what it was given may be acted upon only when Read has returned without an error. Errors: ErrForeign,
// ErrNewer, ErrDamaged, visit's and the reader's own.
func Read(from io.Reader, visit func(Kind, []byte) error) (About, Totals, error) {
	r := &reader{r: bufio.NewReaderSize(from, 64<<10), sum: sha256.New()}
	if err := r.begin(); err != nil {
		return About{}, Totals{}, err
	}
	var about About
	kind, body, err := r.part()
	if err == nil && kind != KindAbout {
		err = fmt.Errorf("%w: it has no description", ErrDamaged)
	}
	if err == nil {
		err = damaged(decMode.Unmarshal(body, &about))
	}
	if err != nil {
		return About{}, Totals{}, err
	}
	totals, err := r.parts(visit)
	if err != nil {
		return about, Totals{}, err
	}
	return about, totals, nil
}

// Describe reads a backup's description alone: nothing else is checked.
func Describe(from io.Reader) (About, error) {
	r := &reader{r: bufio.NewReader(from), sum: sha256.New()}
	var about About
	if err := r.begin(); err != nil {
		return about, err
	}
	_, body, err := r.part()
	if err == nil {
		err = damaged(decMode.Unmarshal(body, &about))
	}
	return about, err
}

func damaged(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

type reader struct {
	r   *bufio.Reader
	sum hash.Hash
	buf []byte
}

func (r *reader) begin() error {
	head := make([]byte, len(magic)+1)
	n, err := io.ReadFull(r.r, head)
	switch {
	case n < len(magic) || string(head[:len(magic)]) != magic:
		if err != nil && !short(err) {
			return err
		}
		return ErrForeign
	case err != nil:
		return fmt.Errorf("%w: it is cut short", ErrDamaged)
	case head[len(magic)] == 0:
		return fmt.Errorf("%w: format version 0", ErrDamaged)
	case head[len(magic)] > version:
		return fmt.Errorf("%w: version %d, known is %d", ErrNewer, head[len(magic)], version)
	}
	r.sum.Write(head)
	return nil
}

func short(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func cutShort(err error) error {
	if short(err) {
		return fmt.Errorf("%w: it is cut short", ErrDamaged)
	}
	return err
}

// ReadByte lets binary.ReadUvarint read through the checksum.
func (r *reader) ReadByte() (byte, error) {
	b, err := r.r.ReadByte()
	if err == nil {
		r.sum.Write([]byte{b})
	}
	return b, err
}

// part gives the next part; body is valid until the next call.
func (r *reader) part() (Kind, []byte, error) {
	n, err := binary.ReadUvarint(r)
	switch {
	case err != nil && !short(err):
		return 0, nil, damaged(err)
	case err != nil:
		return 0, nil, cutShort(err)
	case n == 0 || n > MaxPart:
		return 0, nil, fmt.Errorf("%w: a part of %d bytes", ErrDamaged, n)
	}
	if uint64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if _, err := io.ReadFull(r.r, b); err != nil {
		return 0, nil, cutShort(err)
	}
	r.sum.Write(b)
	return Kind(b[0]), b[1:], nil
}

// parts reads all up to the end and checks totals and checksum.
func (r *reader) parts(visit func(Kind, []byte) error) (Totals, error) {
	var seen, said Totals
	for {
		kind, body, err := r.part()
		if err != nil {
			return said, err
		}
		switch kind {
		case KindEnd:
			if err := damaged(decMode.Unmarshal(body, &said)); err != nil {
				return said, err
			}
			return r.end(seen, said)
		case KindRecord:
			seen.Record += uint64(len(body))
		case KindOutput:
			list, err := DecodeFrames(body)
			if err != nil {
				return said, err
			}
			seen.Frames += uint64(len(list))
			for i := range list {
				seen.Output += uint64(len(list[i].Data))
			}
		default:
			return said, fmt.Errorf("%w: a part of kind %d", ErrDamaged, kind)
		}
		seen.Parts++
		if visit == nil {
			continue
		}
		if err := visit(kind, body); err != nil {
			return said, err
		}
	}
}

// end checks what stands after the last part.
func (r *reader) end(seen, said Totals) (Totals, error) {
	want := r.sum.Sum(nil)
	got := make([]byte, sumSize)
	if _, err := io.ReadFull(r.r, got); err != nil {
		return said, cutShort(err)
	}
	if string(got) != string(want) || seen != said {
		return said, fmt.Errorf("%w: the checksum is wrong", ErrDamaged)
	}
	if _, err := r.r.ReadByte(); !errors.Is(err, io.EOF) {
		return said, fmt.Errorf("%w: there are bytes after its end", ErrDamaged)
	}
	said.SHA256 = hex.EncodeToString(want)
	return said, nil
}
