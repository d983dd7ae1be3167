package contents

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// TestLayouts: the fields of a structure leave nothing out, so that every byte
// that differs has a name.
func TestLayouts(t *testing.T) {
	for name, l := range layouts {
		next := 0
		for _, f := range l.fields {
			if f.at != next || f.length <= 0 {
				t.Errorf("%s: %s is at %d, the field before ends at %d", name, f.name, f.at, next)
			}
			next = f.at + f.length
		}
		want, got := make([]byte, l.size()), make([]byte, l.size())
		for i := range got {
			got[i] = 1
			if l.differences(want, got) == "" {
				t.Errorf("%s: byte %d has no name", name, i)
			}
			got[i] = 0
		}
	}
}

func sample() *List {
	return &List{
		DiskSize:   1 << 20,
		Partitions: []Partition{{"root", 4096, 8192}},
		Regions: []Region{
			{Part: Table, Kind: Structure, Name: "protective MBR", Fields: "mbr", At: []Extent{{440, 72}}, Size: 72, Bytes: strings.Repeat("00", 72)},
			{Part: "root", Kind: File, Name: "/a\n\"<b>\xff", At: []Extent{{4096, 4096}, {-1, 8192}}, Size: 5000, SHA256: "ab", Inode: 12, Mode: "100644", Time: 5},
			{Part: "root", Kind: Link, Name: "/c", Target: "a", Inode: 13, Mode: "120777"},
		},
	}
}

func TestList_Again(t *testing.T) {
	l := sample()
	l.Regions[1].Name = "/a\n\"<b>"
	var b bytes.Buffer
	if err := l.encode(&b); err != nil {
		t.Fatal(err)
	}
	again, err := decode(&b)
	if err != nil || !reflect.DeepEqual(l, again) {
		t.Errorf("%+v, %v, want %+v", again, err, l)
	}
}

func TestDecode_OutOfBounds(t *testing.T) {
	for name, change := range map[string]func(r *Region){
		"behind the disk": func(r *Region) { r.At[0].Start = 1 << 20 },
		"no length":       func(r *Region) { r.At[0].Length = 0 },
		"overflow":        func(r *Region) { r.At[0].Length = 1<<63 - 1 },
		"larger":          func(r *Region) { r.Size = 1 << 21 },
		"fields unknown":  func(r *Region) { r.Fields = "none" },
		"fields short":    func(r *Region) { r.Fields = "gpt" },
		"fields in holes": func(r *Region) { r.At[0].Start = -1; r.Fields = "mbr"; r.Size = 72; r.Bytes = strings.Repeat("00", 72) },
	} {
		l := sample()
		change(&l.Regions[1])
		l.Regions[1].At = l.Regions[1].At[:1]
		var b bytes.Buffer
		if err := l.encode(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := decode(&b); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

// FuzzDecode: whatever a list says, comparing by it ends and does not panic.
func FuzzDecode(f *testing.F) {
	var b bytes.Buffer
	if err := sample().encode(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decode(bytes.NewReader(b))
		if err != nil || l.DiskSize > 1<<22 || l.DiskSize < 0 || len(l.Regions) > 50 {
			return
		}
		for _, r := range l.Regions {
			if r.Size > 1<<24 {
				return
			}
		}
		if _, err := l.Compare(t.Context(), memory(make([]byte, l.DiskSize))); err != nil {
			t.Error(err)
		}
	})
}

// memory is a disk in memory.
type memory []byte

func (m memory) Size() int64  { return int64(len(m)) }
func (m memory) Close() error { return nil }
func (m memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}
func (m memory) NextData(start, end int64) (int64, int64, error) { return start, end, nil }
