package tartcheck

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/pierrec/lz4/v4"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew; it needs the program lz4")

// TestDecode_Documented is a stream that Apple's library wrote.
func TestDecode_Documented(t *testing.T) {
	stream, _ := hex.DecodeString("6276342d0e00000048656c6c6f2c20576f726c64210a62763424")
	var out bytes.Buffer
	n, err := Decode(&out, bytes.NewReader(stream), 14)
	if err != nil || n != 14 || out.String() != "Hello, World!\n" {
		t.Errorf("%q, %d, %v", out.String(), n, err)
	}
}

// TestDecode_ByHand are blocks that were put together by hand.
func TestDecode_ByHand(t *testing.T) {
	packed := func(size uint32, block string) string {
		b := binary.LittleEndian.AppendUint32([]byte("bv41"), size)
		return string(binary.LittleEndian.AppendUint32(b, uint32(len(block)))) + block
	}
	plain := func(s string) string {
		return string(binary.LittleEndian.AppendUint32([]byte("bv4-"), uint32(len(s)))) + s
	}
	const end = "bv4$"
	for name, c := range map[string]struct {
		stream, holds string
		fault         error
	}{
		"nothing":               {end, "", nil},
		"literals":              {packed(3, "\x30abc") + end, "abc", nil},
		"a match":               {packed(9, "\x31abc\x03\x00\x10d") + end, "abcabcabd", nil},
		"a match that repeats":  {packed(10, "\x14a\x01\x00\x10b") + end, "aaaaaaaaab", nil},
		"a match at the end":    {packed(7, "\x30abc"[:0]+"\x30abc\x03\x00") + end, "abcabca", nil},
		"back into a block":     {plain("abcdef") + packed(7, "\x03\x06\x00") + packed(4, "\x00\x07\x00") + end, "abcdef" + "abcdefa" + "abcd", nil},
		"a long match":          {packed(1+15+4+255+3+1, "\x1fa\x01\x00\xff\x03\x10b") + end, string(bytes.Repeat([]byte("a"), 278)) + "b", nil},
		"no offset":             {packed(9, "\x31abc\x00\x00\x10d") + end, "", ErrStream},
		"before the stream":     {packed(9, "\x31abc\x04\x00\x10d") + end, "", ErrStream},
		"more than its size":    {packed(8, "\x31abc\x03\x00\x10d") + end, "", ErrStream},
		"less than its size":    {packed(10, "\x31abc\x03\x00\x10d") + end, "", ErrStream},
		"literals are missing":  {packed(4, "\x40abc") + end, "", ErrStream},
		"half an offset":        {packed(9, "\x31abc\x03") + end, "", ErrStream},
		"an endless length":     {packed(400, "\xf0\xff") + end, "", ErrStream},
		"an unknown block":      {"bvx2" + end, "", ErrStream},
		"too much":              {plain(string(make([]byte, 401))) + end, "", ErrStream},
		"a block of gigabytes":  {"bv4-\xff\xff\xff\xff" + end, "", ErrStream},
		"packed as more":        {"bv41\x01\x00\x00\x00\xff\xff\xff\xff" + end, "", ErrStream},
		"no end":                {plain("a"), "a", ErrTruncated},
		"half a size":           {"bv41\x01", "", ErrTruncated},
		"half a packed size":    {"bv41\x01\x00\x00\x00\x00", "", ErrTruncated},
		"half a block":          {plain("abc")[:9], "", ErrTruncated},
		"half a packed block":   {packed(3, "\x30abc")[:14], "", ErrTruncated},
		"a word after the end":  {end + "x", "", ErrStream},
		"a fault after a block": {plain("abc") + packed(1, ""), "abc", ErrStream},
	} {
		var out bytes.Buffer
		n, err := Decode(&out, bytes.NewReader([]byte(c.stream)), 400)
		if !errors.Is(err, c.fault) || (err != nil) != (c.fault != nil) || out.String() != c.holds || n != int64(out.Len()) {
			t.Errorf("%s: %q, %d, %v; want %q, %v", name, out.String(), n, err, c.holds, c.fault)
		}
	}
}

// TestDecode_FailedWrite: what cannot be written is the writer's fault.
func TestDecode_FailedWrite(t *testing.T) {
	r, w := io.Pipe()
	r.CloseWithError(os.ErrDeadlineExceeded)
	if _, err := Decode(w, bytes.NewReader([]byte("bv4-\x01\x00\x00\x00abv4$")), 1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// lookBack is content whose blocks of 64 KiB refer to those before them.
func lookBack(size int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	phrase := make([]byte, 3000)
	for i := range phrase {
		phrase[i] = byte(random.IntN(256))
	}
	var b []byte
	for len(b) < size {
		from := random.IntN(len(phrase) - 40)
		b = append(b, phrase[from:from+4+random.IntN(len(phrase)-from-3)]...)
		if random.IntN(8) == 0 {
			b = append(b, byte(random.IntN(256)))
		}
	}
	return b[:size]
}

// frames begin with the magic number, flags, block size and their checksum: of
// blocks of at most 64 KiB that refer back, or do not.
var (
	linkedFrame = []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0}
	loneFrame   = []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82}
)

// storedBlock marks the size of a block in a frame that is not packed.
const storedBlock = 1 << 31

// toApple puts the blocks of a frame of the reference implementation into
// Apple's framing. plain is what the frame holds.
func toApple(t testing.TB, frame, plain []byte) []byte {
	t.Helper()
	if !bytes.HasPrefix(frame, linkedFrame) && !bytes.HasPrefix(frame, loneFrame) {
		t.Fatalf("a frame begins with %x", frame[:min(len(frame), 8)])
	}
	var stream []byte
	for frame = frame[len(linkedFrame):]; ; {
		size := binary.LittleEndian.Uint32(frame)
		frame = frame[4:]
		if size == 0 {
			return append(stream, "bv4$"...)
		}
		n := min(len(plain), 64<<10)
		plain = plain[n:]
		if size&storedBlock != 0 {
			stream = binary.LittleEndian.AppendUint32(append(stream, "bv4-"...), uint32(n))
		} else {
			stream = binary.LittleEndian.AppendUint32(append(stream, "bv41"...), uint32(n))
			stream = binary.LittleEndian.AppendUint32(stream, size)
		}
		size &^= storedBlock
		stream, frame = append(stream, frame[:size]...), frame[size:]
	}
}

// reference has the reference implementation's program pack content.
func reference(t testing.TB, content []byte, level string) (frame []byte, ok bool) {
	t.Helper()
	program, err := exec.LookPath("lz4")
	if err != nil {
		return nil, false
	}
	cmd := exec.Command(program, level, "-B4", "-BD", "--no-frame-crc", "-c")
	cmd.Stdin = bytes.NewReader(content)
	frame, err = cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return frame, true
}

// TestDecode_LinkedVector reads a stream whose blocks the reference
// implementation made, each of which refers to the one before.
func TestDecode_LinkedVector(t *testing.T) {
	const file = "testdata/linked.bv4"
	want := lookBack(150_000, 1)
	if *update {
		frame, ok := reference(t, want, "-9")
		if !ok {
			t.Fatal("there is no program lz4: install the package lz4")
		}
		if err := os.WriteFile(file, toApple(t, frame, want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	if n, err := Decode(&out, bytes.NewReader(stream), int64(len(want))); err != nil || n != int64(len(want)) || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d bytes, %v; the same: %v", n, err, bytes.Equal(out.Bytes(), want))
	}
	// The vector is worth something only if the second block cannot be read alone.
	second := bytes.Index(stream[12:], []byte("bv41")) + 12
	if _, err := Decode(io.Discard, bytes.NewReader(stream[second:]), int64(len(want))); !errors.Is(err, ErrStream) {
		t.Errorf("the second block alone: %v", err)
	}
}

// TestDecode_Reference reads what the program lz4 packs, where there is one.
func TestDecode_Reference(t *testing.T) {
	if _, err := exec.LookPath("lz4"); err != nil {
		t.Skip("no program lz4: install the package lz4")
	}
	for i, size := range []int{1, 65535, 65536, 65537, 1_000_000} {
		for _, level := range []string{"-1", "-9", "-12"} {
			content := lookBack(size, uint64(i)+2)
			frame, _ := reference(t, content, level)
			var out bytes.Buffer
			_, err := Decode(&out, bytes.NewReader(toApple(t, frame, content)), int64(size))
			if err != nil || !bytes.Equal(out.Bytes(), content) {
				t.Errorf("%d bytes, level %s: %v", size, level, err)
			}
		}
	}
}

// independent unpacks a stream with the block functions of another module. It
// trusts the framing.
func independent(stream []byte) ([]byte, error) {
	var out []byte
	for {
		magic := string(stream[:4])
		if magic == "bv4$" {
			return out, nil
		}
		size := binary.LittleEndian.Uint32(stream[4:])
		if magic == "bv4-" {
			out, stream = append(out, stream[8:8+size]...), stream[8+size:]
			continue
		}
		n := binary.LittleEndian.Uint32(stream[8:])
		block := make([]byte, size)
		if n > 0 {
			got, err := lz4.UncompressBlockWithDict(stream[12:12+n], block, out[max(0, len(out)-64<<10):])
			if err != nil || got != int(size) {
				return nil, fmt.Errorf("%d of %d bytes: %w", got, size, err)
			}
		}
		out, stream = append(out, block...), stream[12+n:]
	}
}

// FuzzDecode: no stream makes it fail otherwise than by an error, or write more
// than it may; and what it takes is what another module reads.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("bv4-\x0e\x00\x00\x00Hello, World!\nbv4$"))
	f.Add([]byte("bv41\x0a\x00\x00\x00\x05\x00\x00\x00\x14a\x01\x00\x10bbv4$")) // cut off
	f.Add([]byte("bv4-\x06\x00\x00\x00abcdefbv41\x07\x00\x00\x00\x03\x00\x00\x00\x03\x06\x00bv4$"))
	content := lookBack(3000, 3)
	var c lz4.Compressor
	block := make([]byte, lz4.CompressBlockBound(len(content)))
	n, err := c.CompressBlock(content, block)
	if err != nil {
		f.Fatal(err)
	}
	stream := binary.LittleEndian.AppendUint32([]byte("bv41"), uint32(len(content)))
	stream = binary.LittleEndian.AppendUint32(stream, uint32(n))
	f.Add(slices.Concat(stream, block[:n], []byte("bv4$")))

	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1 << 20
		var out bytes.Buffer
		n, err := Decode(&out, bytes.NewReader(stream), limit)
		if n != int64(out.Len()) || n > limit {
			t.Fatalf("wrote %d bytes and says %d", out.Len(), n)
		}
		if err != nil {
			if !errors.Is(err, ErrStream) && !errors.Is(err, ErrTruncated) {
				t.Fatalf("a fault without a name: %v", err)
			}
			return
		}
		want, err := independent(stream)
		if err != nil {
			t.Fatalf("another module refuses it: %v", err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("another module reads it differently")
		}
	})
}
