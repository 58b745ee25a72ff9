package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// value is one node of a file after YAML 1.1, with aliases followed and merges done.
type value struct {
	scalar
	text   string // of a scalar, as written
	quoted bool   // or written as a block: a text whatever it looks like
	list   []*value
	fields []field // of a mapping, in order, each key once
	src    *source
	line   int
	char   int // column in characters, from 1
}

// field is one key of a mapping with its value.
type field struct {
	name string // the key as JSON writes it
	key  *value
	val  *value
}

// at gives the place of the value, or of its key where the value is empty.
func (f field) at() place {
	if f.val.kind == kindNull && f.val.text == "" {
		return f.key.at()
	}
	return f.val.at()
}

// at gives the place of the value: of its text, or of its beginning.
func (v *value) at() place {
	if v == nil || v.src == nil {
		return place{}
	}
	if v.kind == kindList || v.kind == kindMap {
		p := v.src.place(v.line, v.char, "")
		if v.kind == kindMap && len(v.fields) > 0 && v.fields[0].key.line == v.line && v.fields[0].key.char == v.char {
			return v.fields[0].key.at()
		}
		p.length = min(p.length, 1)
		return p
	}
	p := v.src.place(v.line, v.char, v.text)
	if v.quoted && v.text == "" {
		p.length = min(p.length, len("''"))
	}
	return p
}

// field finds a key of a mapping.
func (v *value) field(name string) (field, bool) {
	for _, f := range v.fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// asText gives what Python's str() gives of a scalar, and whether the value is one.
func (v *value) asText() (string, bool) {
	switch v.kind {
	case kindNull:
		return "None", true
	case kindBool:
		if v.yes {
			return "True", true
		}
		return "False", true
	case kindInt:
		return v.num.String(), true
	case kindFloat:
		return pythonReal(v.real), true
	case kindDate, kindText:
		return v.text, true
	default:
		return "", false
	}
}

// keyName gives the name of a key as Python's json writes it.
func (v *value) keyName() string {
	switch v.kind {
	case kindNull:
		return "null"
	case kindBool:
		return fmt.Sprint(v.yes)
	default:
		s, _ := v.asText()
		return s
	}
}

// written gives the value as JSON with the types that YAML gave it. Numbers that JSON lacks (.inf, .nan) are texts.
func (v *value) written() json.RawMessage {
	var b bytes.Buffer
	v.write(&b)
	return b.Bytes()
}

func (v *value) write(b *bytes.Buffer) {
	switch v.kind {
	case kindNull:
		b.WriteString("null")
	case kindBool:
		fmt.Fprint(b, v.yes)
	case kindInt:
		b.WriteString(v.num.String())
	case kindFloat:
		v.writeReal(b)
	case kindDate, kindText:
		writeText(b, v.text)
	case kindList:
		v.writeList(b)
	case kindMap:
		v.writeMap(b)
	}
}

func (v *value) writeReal(b *bytes.Buffer) {
	if math.IsInf(v.real, 0) || math.IsNaN(v.real) {
		writeText(b, v.text)
		return
	}
	b.WriteString(pythonReal(v.real))
}

func (v *value) writeList(b *bytes.Buffer) {
	b.WriteByte('[')
	for i, e := range v.list {
		if i > 0 {
			b.WriteByte(',')
		}
		e.write(b)
	}
	b.WriteByte(']')
}

func (v *value) writeMap(b *bytes.Buffer) {
	b.WriteByte('{')
	for i, f := range v.fields {
		if i > 0 {
			b.WriteByte(',')
		}
		writeText(b, f.name)
		b.WriteByte(':')
		f.val.write(b)
	}
	b.WriteByte('}')
}

// writeText writes a JSON string without the HTML escapes that json.Marshal adds by itself. Encoding a string can't fail.
func writeText(b *bytes.Buffer, s string) {
	var quoted bytes.Buffer
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		quoted.WriteString(`""`)
	}
	b.WriteString(strings.TrimSuffix(quoted.String(), "\n"))
}
