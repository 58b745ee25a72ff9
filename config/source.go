package config

import (
	"strings"
	"unicode/utf8"
)

// maxShown is the longest line, in bytes, that a problem repeats for its caret.
const maxShown = 400

// source is the text of one file, cut at YAML's line breaks so that line numbers are those of the parser.
type source struct {
	secret map[int]bool // lines that hold a password: no problem shows them
	name   string
	lines  []string // without their breaks
	ends   []string // the break of each line
}

func newSource(name, text string) *source {
	s := &source{name: name}
	for text != "" {
		i, n := nextBreak(text)
		s.lines = append(s.lines, text[:i])
		s.ends = append(s.ends, text[i:i+n])
		text = text[i+n:]
	}
	return s
}

// nextBreak finds the first line break: its offset and length. Besides CR and LF, YAML 1.1 knows NEL, LS and PS.
func nextBreak(text string) (at, length int) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\n':
			return i, 1
		case '\r':
			if strings.HasPrefix(text[i:], "\r\n") {
				return i, 2
			}
			return i, 1
		case 0xC2:
			if strings.HasPrefix(text[i:], "\u0085") {
				return i, 2
			}
		case 0xE2:
			if strings.HasPrefix(text[i:], "\u2028") || strings.HasPrefix(text[i:], "\u2029") {
				return i, 3
			}
		}
	}
	return len(text), 0
}

// text gives the whole text again, or that of the first n lines.
func (s *source) text(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(s.lines[i])
		b.WriteString(s.ends[i])
	}
	return b.String()
}

// line gives the text of a line, from 1; empty where there is none.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// place is where something stands in a file.
type place struct {
	src       *source
	line, col int // from 1; col in bytes
	length    int // bytes to underline
	hit       bool
}

// place gives the place of a scalar's text that the parser saw at a line and column (in characters). The text is looked for
// from there on, because an anchor, a tag or a quote may stand before it; hit says that it was found as it is, so that offsets
// inside the text are offsets in the line.
func (s *source) place(line, char int, text string) place {
	full := s.line(line)
	col := byteOffset(full, char-1)
	p := place{src: s, line: line, col: col + 1}
	if i := strings.Index(full[col:], text); text != "" && i >= 0 {
		p.col += i
		p.length, p.hit = len(text), true
		return p
	}
	p.length = len(strings.TrimRight(full[col:], " \t"))
	return p
}

// byteOffset turns an offset in characters into one in bytes.
func byteOffset(line string, chars int) int {
	at := 0
	for ; chars > 0 && at < len(line); chars-- {
		_, n := utf8.DecodeRuneInString(line[at:])
		at += n
	}
	return at
}

// shown gives the line for the caret, empty where it is too long to help.
func (p place) shown() string {
	if p.src != nil && p.src.secret[p.line] {
		return ""
	}
	if p.src == nil {
		return ""
	}
	if l := p.src.line(p.line); len(l) <= maxShown {
		return l
	}
	return ""
}

// hide keeps the line of a value from being shown.
func (v *value) hide() {
	if v.src == nil {
		return
	}
	if v.src.secret == nil {
		v.src.secret = make(map[int]bool)
	}
	v.src.secret[v.line] = true
}
