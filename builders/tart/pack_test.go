package tart

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/pierrec/lz4/v4"

	"github.com/rockpool/rootvm/builders/tart/tartcheck"
)

// pack packs content as a chunk's stream.
func pack(t testing.TB, c *lz4.CompressorCCompat, content []byte) []byte {
	t.Helper()
	s := newSegment()
	var stream []byte
	for len(content) > 0 {
		s.plain = s.plain[:copy(s.plain[:segmentSize], content)]
		content = content[len(s.plain):]
		if err := s.pack(c); err != nil {
			t.Fatal(err)
		}
		stream = append(stream, s.packed...)
	}
	return append(stream, endOfStream...)
}

// samples are contents that compress well, badly, and not at all.
func samples() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_001)
	for i := range noise {
		noise[i] = byte(random.IntN(256))
	}
	mixed := bytes.Clone(noise)
	for i := 0; i+100 < len(mixed); i += 1 + random.IntN(300) {
		copy(mixed[i:i+50], mixed[:50])
	}
	return map[string][]byte{
		"nothing": nil, "a byte": {7}, "zeros": make([]byte, 300_000), "noise": noise, "mixed": mixed,
		"noise in whole blocks": noise[:4*blockSize],
	}
}

// TestSegment_Pack reads what is packed with our own decoder, with the frame
// reader of another module's, and with the reference implementation's program
// where there is one.
func TestSegment_Pack(t *testing.T) {
	var c lz4.CompressorCCompat
	for name, content := range samples() {
		stream := pack(t, &c, content)
		if again := pack(t, new(lz4.CompressorCCompat), content); !bytes.Equal(stream, again) {
			t.Errorf("%s: a compressor that was used makes other bytes", name)
		}
		if most := len(content) + 8*(len(content)/blockSize+1) + 4; len(stream) > most {
			t.Errorf("%s: %d bytes became %d", name, len(content), len(stream))
		}

		var out bytes.Buffer
		if _, err := tartcheck.Decode(&out, bytes.NewReader(stream), int64(len(content))); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("%s: our decoder: %v", name, err)
		}

		frame := asFrame(stream)
		if got, err := io.ReadAll(lz4.NewReader(bytes.NewReader(frame))); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: the module's frame reader: %v", name, err)
		}
		if program, err := exec.LookPath("lz4"); err == nil {
			cmd := exec.Command(program, "-d", "-c")
			cmd.Stdin = bytes.NewReader(frame)
			if got, err := cmd.Output(); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: the program lz4: %v", name, err)
			}
		}
	}
}

// asFrame puts the blocks of a stream into a frame of the reference
// implementation: independent blocks of at most 64 KiB, no checksums.
func asFrame(stream []byte) []byte {
	frame := []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82}
	for {
		magic := string(stream[:4])
		if magic == endOfStream {
			return append(frame, 0, 0, 0, 0)
		}
		size := binary.LittleEndian.Uint32(stream[4:])
		marked, block := size|1<<31, stream[8:]
		if magic == packedBlock {
			size = binary.LittleEndian.Uint32(stream[8:])
			marked, block = size, stream[12:]
		}
		frame = binary.LittleEndian.AppendUint32(frame, marked)
		frame, stream = append(frame, block[:size]...), block[size:]
	}
}

// FuzzPack: whatever is packed comes back.
func FuzzPack(f *testing.F) {
	f.Add([]byte("content"), uint16(1))
	f.Add([]byte{0}, uint16(60_000))
	f.Add([]byte("0123456789abcdef"), uint16(9_000))
	f.Fuzz(func(t *testing.T, piece []byte, times uint16) {
		content := bytes.Repeat(piece, min(int(times), 400_000/(len(piece)+1)))
		var out bytes.Buffer
		_, err := tartcheck.Decode(&out, bytes.NewReader(pack(t, new(lz4.CompressorCCompat), content)), int64(len(content)))
		if err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("%d bytes: %v", len(content), err)
		}
	})
}
