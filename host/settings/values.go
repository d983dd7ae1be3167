package settings

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// value is a pflag.Value made of functions.
type value struct {
	kind string // as --help shows it
	set  func(string) error
	text func() string
}

func (v value) Set(s string) error { return v.set(s) }
func (v value) String() string     { return v.text() }
func (v value) Type() string       { return v.kind }

// Derived is v with something that follows from it.
func Derived(v pflag.Value, then func()) pflag.Value {
	set := func(s string) error {
		if err := v.Set(s); err != nil {
			return err
		}
		then()
		return nil
	}
	return value{v.Type(), set, v.String}
}

// Text takes anything.
func Text(p *string) pflag.Value {
	return value{"text", func(s string) error { *p = s; return nil }, func() string { return *p }}
}

// Choice takes one of the words.
func Choice(p *string, allowed ...string) pflag.Value {
	set := func(s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("use one of %s", strings.Join(allowed, ", "))
		}
		*p = s
		return nil
	}
	return value{strings.Join(allowed, "|"), set, func() string { return *p }}
}

// Words takes words that commas or spaces part.
func Words(p *[]string) pflag.Value {
	part := func(c rune) bool { return c == ',' || c == ' ' }
	return value{"list", func(s string) error { *p = strings.FieldsFunc(s, part); return nil }, func() string { return strings.Join(*p, ",") }}
}

// Bool takes 1, true, yes, 0, false and no.
func Bool(p *bool) pflag.Value {
	set := func(s string) error {
		switch s {
		case "1", "true", "yes":
			*p = true
		case "0", "false", "no":
			*p = false
		default:
			return fmt.Errorf("use 1 or 0")
		}
		return nil
	}
	return value{"bool", set, func() string { return strconv.FormatBool(*p) }}
}

// Number takes a whole number above 0.
func Number[T int | int64](p *T) pflag.Value {
	set := func(s string) error {
		n, err := strconv.ParseInt(s, 10, strconv.IntSize)
		if err != nil || n <= 0 {
			return fmt.Errorf("use a whole number above 0")
		}
		*p = T(n)
		return nil
	}
	return value{"number", set, func() string { return zeroEmpty(*p) }}
}

// Port takes the number of a TCP port that has room for the last ones of a run
// of following ports behind it.
func Port(p *int, following int) pflag.Value {
	last := math.MaxUint16 - following
	set := func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > last {
			return fmt.Errorf("use a port from 1 to %d", last)
		}
		*p = n
		return nil
	}
	return value{"port", set, func() string { return zeroEmpty(*p) }}
}

// Seconds takes a whole number of seconds above 0.
func Seconds(p *time.Duration) pflag.Value {
	var n int64
	number := Number(&n)
	set := func(s string) error {
		if err := number.Set(s); err != nil {
			return err
		}
		if n > int64(math.MaxInt64/time.Second) {
			return fmt.Errorf("use fewer seconds")
		}
		*p = time.Duration(n) * time.Second
		return nil
	}
	return value{"seconds", set, func() string { return zeroEmpty(int64(p.Seconds())) }}
}

// Size takes bytes, in powers of 1024, such as 8G, 512M or 1073741824.
func Size(p *int64) pflag.Value {
	set := func(s string) error {
		n, err := units.RAMInBytes(s)
		if err != nil || n <= 0 {
			return fmt.Errorf("use a size above 0, a number with K, M, G or T, such as 8G")
		}
		*p = n
		return nil
	}
	text := func() string {
		if *p == 0 {
			return ""
		}
		return units.CustomSize("%g%s", float64(*p), 1024, []string{"", "K", "M", "G", "T", "P"})
	}
	return value{"size", set, text}
}

// Path takes the name of a file or directory; one that is not absolute is
// taken from base.
func Path(p *string, base string) pflag.Value {
	set := func(s string) error {
		if !filepath.IsAbs(s) {
			s = filepath.Join(base, s)
		}
		*p = filepath.Clean(s)
		return nil
	}
	return value{"path", set, func() string { return *p }}
}

// zeroEmpty leaves a default of 0 out of --help.
func zeroEmpty[T int | int64](n T) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}
