package vm

import (
	"slices"
	"testing"
)

func TestParseProcargs(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      []string // nil: not understood
	}{
		{"two", "\x02\x00\x00\x00/bin/tart\x00\x00\x00\x00tart\x00run\x00HOME=/h\x00", []string{"tart", "run"}},
		{"an empty one", "\x03\x00\x00\x00/bin/a\x00a\x00\x00b\x00", []string{"a", "", "b"}},
		{"nothing", "", nil},
		{"short", "\x01\x00", nil},
		{"no end of the path", "\x01\x00\x00\x00/bin/a", nil},
		{"no end of an argument", "\x02\x00\x00\x00/bin/a\x00a\x00b", nil},
		{"more than there are", "\xff\xff\xff\xff/bin/a\x00a\x00", nil},
	} {
		got, ok := parseProcargs([]byte(tt.raw))
		if ok != (tt.want != nil) || ok && !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, ok, tt.want)
		}
	}
}

func FuzzParseProcargs(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00/bin/tart\x00\x00\x00\x00tart\x00run\x00HOME=/h\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { parseProcargs(b) })
}

func TestParseWorkingDirectory(t *testing.T) {
	for out, want := range map[string]string{"p42\nfcwd\nn/Users/me/a b\n": "/Users/me/a b", "p42\n": "", "": ""} {
		if got := parseWorkingDirectory(out); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}
