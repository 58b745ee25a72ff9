package config

import (
	"fmt"
	"math/big"

	"go.yaml.in/yaml/v3"
)

const (
	// maxWeight bounds what one value may hold once its aliases are followed: a few lines of anchors can stand for billions.
	maxWeight = 100_000
	// maxMerged bounds the keys that merges copy in one file.
	maxMerged = 1_000_000
	// maxDepth bounds nesting.
	maxDepth = 100
)

// decoder turns the parser's nodes of one file into values: it reads scalars as YAML 1.1 does, follows aliases, does merges and
// reports what can't be read. A node is decoded once, however many aliases lead to it.
type decoder struct {
	src    *source
	rep    *report
	done   map[*yaml.Node]decoded
	open   map[*yaml.Node]bool
	merged int
}

type decoded struct {
	val    *value
	weight int // the number of values in it, aliases followed
}

func newDecoder(src *source, rep *report) *decoder {
	return &decoder{src: src, rep: rep, done: make(map[*yaml.Node]decoded), open: make(map[*yaml.Node]bool)}
}

// decode gives the value of a node. It never gives nil: what can't be read is reported and stands as empty.
func (d *decoder) decode(n *yaml.Node, path string, depth int) decoded {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		if d.open[n.Alias] {
			return d.refuse(n, path, "write the value out", "the anchor %s holds itself", n.Value)
		}
		return d.decode(n.Alias, path, depth)
	}
	if known, ok := d.done[n]; ok {
		return known
	}
	if depth > maxDepth {
		return d.refuse(n, path, "", "nested more than %d levels deep", maxDepth)
	}
	d.open[n] = true
	out := d.build(n, path, depth)
	delete(d.open, n)
	if out.weight > maxWeight {
		out = d.refuse(n, path, "write less with anchors", "holds more than %d values once its anchors are followed", maxWeight)
	}
	d.done[n] = out
	return out
}

func (d *decoder) build(n *yaml.Node, path string, depth int) decoded {
	v := d.valueAt(n)
	switch n.Kind {
	case yaml.ScalarNode:
		d.scalar(n, v, path)
		return decoded{v, 1}
	case yaml.SequenceNode:
		d.checkTag(n, path, "!!seq")
		return d.list(n, v, path, depth)
	case yaml.MappingNode:
		d.checkTag(n, path, "!!map")
		return d.mapping(n, v, path, depth)
	default:
		return decoded{v, 1}
	}
}

func (d *decoder) valueAt(n *yaml.Node) *value {
	return &value{src: d.src, line: n.Line, char: n.Column}
}

func (d *decoder) refuse(n *yaml.Node, path, hint, format string, args ...any) decoded {
	v := d.valueAt(n)
	p := v.at()
	d.rep.errorf(p, path, hint, format, args...)
	return decoded{v, 1}
}

func (d *decoder) checkTag(n *yaml.Node, path, want string) {
	if n.Tag != want && n.Tag != "" {
		d.refuse(n, path, "leave the tag out", "the tag %s is not known here", n.Tag)
	}
}

// scalar resolves a scalar. An explicit tag is followed where it says one of YAML's own types.
func (d *decoder) scalar(n *yaml.Node, v *value, path string) {
	v.text = n.Value
	v.quoted = n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	switch {
	case n.Style&yaml.TaggedStyle == 0:
		if v.quoted {
			v.kind = kindText
			return
		}
		v.scalar = resolve(n.Value)
	case n.Tag == "!!str":
		v.kind, v.quoted = kindText, true
	case n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!bool" || n.Tag == "!!null" || n.Tag == "!!timestamp":
		if v.scalar = resolve(n.Value); v.kind == kindText {
			d.refuse(n, path, "leave the tag out, or write such a value", "%q is not a value for the tag %s", n.Value, n.Tag)
		}
		if n.Tag == "!!float" && v.kind == kindInt {
			v.kind = kindFloat
			v.real, _ = new(big.Float).SetInt(v.num).Float64()
		}
	default:
		d.refuse(n, path, "leave the tag out", "the tag %s is not known here", n.Tag)
		v.kind = kindText
	}
}

func (d *decoder) list(n *yaml.Node, v *value, path string, depth int) decoded {
	v.kind = kindList
	weight := 1
	for i, c := range n.Content {
		e := d.decode(c, fmt.Sprintf("%s[%d]", path, i), depth+1)
		v.list = append(v.list, e.val)
		weight = addWeight(weight, e.weight)
	}
	return decoded{v, weight}
}

func addWeight(a, b int) int { return min(a+b, maxWeight+1) }

// mapping decodes a mapping. As in PyYAML, merged keys come first and the mapping's own win.
func (d *decoder) mapping(n *yaml.Node, v *value, path string, depth int) decoded {
	v.kind = kindMap
	weight := 1
	m := merger{into: v, index: make(map[string]int, len(n.Content)/2)}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag == "!!merge" {
			weight = addWeight(weight, d.merge(&m, n.Content[i+1], path, depth))
		}
	}
	own := make(map[string]*value)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag == "!!merge" {
			continue
		}
		key := d.key(n.Content[i], path)
		name := key.keyName()
		inner := join(path, name)
		if first := own[name]; first != nil {
			d.rep.errorf(key.at(), inner, "keep one of them",
				"the key %s is written twice, first in line %d column %d (the Python program took the last)", name, first.at().line, first.at().col)
		} else {
			own[name] = key
		}
		e := d.decode(n.Content[i+1], inner, depth+1)
		weight = addWeight(weight, e.weight)
		m.set(field{name, key, e.val})
	}
	return decoded{v, weight}
}

// key decodes a key: a scalar, else it is reported.
func (d *decoder) key(n *yaml.Node, path string) *value {
	at := n
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	v := d.valueAt(at)
	if n.Kind != yaml.ScalarNode {
		d.refuse(at, path, "write a text", "a key is a list or a mapping")
		v.kind, v.text = kindText, fmt.Sprintf("?%d:%d", at.Line, at.Column)
		return v
	}
	d.scalar(n, v, path)
	return v
}

// merger fills a mapping so that later fields take the place of earlier ones of the same name.
type merger struct {
	into  *value
	index map[string]int
}

func (m *merger) set(f field) {
	if i, ok := m.index[f.name]; ok {
		m.into.fields[i] = f
		return
	}
	m.index[f.name] = len(m.into.fields)
	m.into.fields = append(m.into.fields, f)
}

// merge does `<<: *a` or `<<: [*a, *b]`, where a's keys win over b's. It gives the weight of what came.
func (d *decoder) merge(m *merger, n *yaml.Node, path string, depth int) int {
	from := d.decode(n, path, depth+1)
	sources := []*value{from.val}
	if from.val.kind == kindList {
		sources = from.val.list
	}
	for i := len(sources) - 1; i >= 0; i-- {
		if sources[i].kind != kindMap {
			d.refuse(n, path, "write <<: *anchor of a mapping", "<< takes a mapping or a list of mappings, not %s", sources[i].kind)
			continue
		}
		if d.merged += len(sources[i].fields); d.merged > maxMerged {
			d.refuse(n, path, "merge smaller mappings", "merges copy more than %d keys in this file", maxMerged)
			return 0
		}
		for _, f := range sources[i].fields {
			m.set(f)
		}
	}
	return from.weight
}

// join puts a key behind a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
