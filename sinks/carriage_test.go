package sinks

import (
	"bytes"
	"strings"
	"testing"
)

// reference is the Python program's way, on a whole text.
func reference(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		last := ""
		for _, s := range strings.Split(line, "\r") {
			if s != "" {
				last = s
			}
		}
		lines[i] = last
	}
	return strings.Join(lines, "\n")
}

// filter runs a text through the stream filter, cut where cuts says.
func filter(text string, limit int64, cuts []byte) string {
	var out bytes.Buffer
	c := carriage{limit: limit}
	c.out = func(p []byte) error { out.Write(p); return nil }
	c.again = func(start, size int64) error { out.WriteString(text[start : start+size]); return nil }
	rest := []byte(text)
	for _, cut := range cuts {
		k := min(int(cut), len(rest))
		_ = c.write(rest[:k]) // out and again give no errors
		rest = rest[k:]
	}
	_ = c.write(rest)
	_ = c.end()
	return out.String()
}

func TestCarriage(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"\n":                      "\n",
		"\r":                      "",
		"\r\n":                    "\n",
		"\r\r\r\n\r":              "\n",
		"plain":                   "plain",
		"plain\n":                 "plain\n",
		"10%\r50%\r100%\r\n":      "100%\n",
		"10%\r50%\r100%":          "100%",
		"long first\rab\n":        "ab\n", // not a terminal: what is overwritten goes whole
		"dos\r\nlines\r\n":        "dos\nlines\n",
		"\rleading\n":             "leading\n",
		"a\r\rb\r\r\nc\r":         "b\nc",
		"a\n\n\r\nb":              "a\n\n\nb",
		"x\rä€😀\r\n":              "ä€😀\n",
		"one\ntwo\rthree\nfour\r": "one\nthree\nfour",
	} {
		if got := reference(text); got != want {
			t.Errorf("reference(%q) = %q, want %q", text, got, want)
		}
		if got := lastSegments(text); got != want {
			t.Errorf("lastSegments(%q) = %q, want %q", text, got, want)
		}
		for at := range len(text) + 1 {
			for _, limit := range []int64{0, 1, 3, 100} {
				if got := filter(text, limit, []byte{byte(at)}); got != want {
					t.Errorf("filter(%q, limit %d) cut at %d = %q, want %q", text, limit, at, got, want)
				}
			}
		}
	}
}

func FuzzCarriage(f *testing.F) {
	f.Add("10%\r50%\r100%\r\n", uint8(4), []byte{1, 2, 3})
	f.Add("\r\n\r\r\nabc\r", uint8(0), []byte{})
	f.Add("a\rbcdefghij\r\nk\nl\r\r", uint8(3), []byte{2, 0, 9})
	f.Fuzz(func(t *testing.T, text string, limit uint8, cuts []byte) {
		want := reference(text)
		if got := filter(text, int64(limit), cuts); got != want {
			t.Errorf("filter(%q, %d, %v) = %q, want %q", text, limit, cuts, got, want)
		}
		if got := lastSegments(text); got != want {
			t.Errorf("lastSegments(%q) = %q, want %q", text, got, want)
		}
	})
}

// TestCarriageMemory: a line of any length costs a bounded amount of memory.
func TestCarriageMemory(t *testing.T) {
	var size int64
	c := carriage{limit: maxSegment}
	c.out = func(p []byte) error { size += int64(len(p)); return nil }
	c.again = func(_, n int64) error { size += n; return nil }
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 256 {
		if err := c.write(chunk); err != nil {
			t.Fatal(err)
		}
		if i%64 == 63 {
			if err := c.write([]byte("\r")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if held := cap(c.cur.mem) + cap(c.last.mem); size != 64<<20 || held > 4*maxSegment {
		t.Errorf("%d bytes given out, %d held; want %d and at most %d", size, held, 64<<20, 4*maxSegment)
	}
}
