package config

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// kind is the type of a value in the files, after YAML 1.1.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindDate // kept as the text that was written
	kindText
	kindList
	kindMap
)

var kindWords = [...]string{
	kindNull: "empty", kindBool: "a boolean", kindInt: "a number", kindFloat: "a number", kindDate: "a date",
	kindText: "a text", kindList: "a list", kindMap: "a mapping",
}

func (k kind) String() string { return kindWords[k] }

// PyYAML's own expressions for unquoted scalars. Go's YAML libraries follow other rules, so none of their types is used.
var (
	intForm  = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	realForm = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|` +
		`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	dateForm = regexp.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}` +
		`(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?)$`)
)

// scalar is one resolved scalar.
type scalar struct {
	kind kind
	yes  bool     // of kindBool
	num  *big.Int // of kindInt
	real float64  // of kindFloat
}

// resolve reads the text of an unquoted scalar as PyYAML does.
func resolve(text string) scalar {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return scalar{kind: kindNull}
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return scalar{kind: kindBool, yes: true}
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return scalar{kind: kindBool}
	}
	if c := text[0]; c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') {
		return scalar{kind: kindText}
	}
	switch {
	case intForm.MatchString(text):
		if n := readInt(text); n != nil {
			return scalar{kind: kindInt, num: n}
		}
	case realForm.MatchString(text):
		if f, ok := readReal(text); ok {
			return scalar{kind: kindFloat, real: f}
		}
	case dateForm.MatchString(text):
		return scalar{kind: kindDate}
	}
	return scalar{kind: kindText}
}

// maxDigits bounds the numbers that are worked out; longer ones stay texts.
const maxDigits = 100

// readInt gives the value of a text that intForm matches, nil where there is no digit in it.
func readInt(text string) *big.Int {
	digits := strings.ReplaceAll(text, "_", "")
	sign := strings.HasPrefix(digits, "-")
	digits = strings.TrimLeft(digits, "+-")
	if len(digits) > maxDigits {
		return nil
	}
	var ok bool
	n := new(big.Int)
	switch {
	case strings.HasPrefix(digits, "0b"):
		n, ok = n.SetString(digits[2:], 2)
	case strings.HasPrefix(digits, "0x"):
		n, ok = n.SetString(digits[2:], 16)
	case len(digits) > 1 && digits[0] == '0':
		n, ok = n.SetString(digits[1:], 8)
	case strings.Contains(digits, ":"):
		n, ok = base60(digits), true
	default:
		n, ok = n.SetString(digits, 10)
	}
	if !ok {
		return nil
	}
	if sign {
		n.Neg(n)
	}
	return n
}

// base60 reads 1:30 as 90, as YAML 1.1 does.
func base60(digits string) *big.Int {
	n, sixty := new(big.Int), big.NewInt(60)
	for part := range strings.SplitSeq(digits, ":") {
		if p, ok := new(big.Int).SetString(part, 10); ok {
			n.Add(n.Mul(n, sixty), p)
		}
	}
	return n
}

// readReal gives the value of a text that realForm matches.
func readReal(text string) (float64, bool) {
	low := strings.ToLower(strings.ReplaceAll(text, "_", ""))
	switch strings.TrimLeft(low, "+-") {
	case ".inf":
		if low[0] == '-' {
			return math.Inf(-1), true
		}
		return math.Inf(1), true
	case ".nan":
		return math.NaN(), true
	}
	if len(low) > maxDigits {
		return 0, false
	}
	whole, sign := strings.TrimLeft(low, "+-"), 1.0
	if low[0] == '-' {
		sign = -1
	}
	value := 0.0
	for part := range strings.SplitSeq(whole, ":") {
		p, err := strconv.ParseFloat(part, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is infinite, as in Python
			return 0, false
		}
		value = value*60 + p
	}
	return sign * value, true
}

// odd says how YAML 1.1 reads a number that people may read otherwise: the name of the form, empty for plain ones.
func odd(text string) string {
	bare := strings.TrimLeft(text, "+-")
	switch {
	case strings.HasPrefix(bare, "0b"):
		return "binary"
	case strings.HasPrefix(bare, "0x"):
		return "hexadecimal"
	case strings.Contains(bare, ":"):
		return "base 60"
	case len(bare) > 1 && bare[0] == '0' && !strings.Contains(bare, "."):
		if len(bare) == 2 { // 00 to 07: the same number in both readings
			return ""
		}
		return "octal"
	}
	return ""
}

// otherReading gives what a person means by a number of an odd form: 010 is ten, 1:30 stays what it is.
func otherReading(text string) string {
	bare := strings.ReplaceAll(strings.TrimLeft(text, "+-"), "_", "")
	if odd(text) == "octal" {
		if bare = strings.TrimLeft(bare, "0"); bare == "" {
			return "0"
		}
	}
	return bare
}

// pythonReal gives a float as Python's str() does.
func pythonReal(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
