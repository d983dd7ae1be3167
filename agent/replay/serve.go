package replay

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rockpool/rootvm/guest"
)

// Serve replays the batches that it reads, as lines of JSON, and writes an
// answer to each, until the input ends. Batches wait for the shared directory
// to be mounted.
func Serve(ctx context.Context, in io.Reader, out io.Writer, r *Replayer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, guest.MaxLine)
	answers := json.NewEncoder(out)
	s := session{replayer: r}
	for lines.Scan() {
		var b guest.FileBatch
		err := json.Unmarshal(lines.Bytes(), &b)
		if err == nil {
			err = b.Validate()
		}
		if err != nil {
			return fmt.Errorf("replay: batch not understood: %w", err)
		}
		if err := answers.Encode(s.take(ctx, b)); err != nil {
			return fmt.Errorf("replay: answer: %w", err)
		}
	}
	return lines.Err()
}

// session is how far the stream is.
type session struct {
	replayer *Replayer
	epoch    string
	seq      uint64
	through  int64
}

// take replays a batch and returns the answer.
func (s *session) take(ctx context.Context, b guest.FileBatch) guest.FileAnswer {
	if b.Seq == 0 {
		if b.Epoch != s.epoch {
			s.epoch, s.seq = b.Epoch, 0
		}
		return guest.FileAnswer{Epoch: s.epoch, Greeting: true, Seq: s.seq, Through: s.through}
	}
	if b.Epoch != s.epoch || b.Seq != s.seq+1 { // something was lost
		return guest.FileAnswer{}
	}

	if err := s.replayer.wait(ctx); err != nil {
		return guest.FileAnswer{}
	}
	result := s.replayer.Replay(b.Changes)
	s.seq, s.through = b.Seq, max(b.Through, s.through)
	answer := guest.FileAnswer{Epoch: s.epoch, Seq: s.seq, Replayed: result.Replayed, Skipped: result.Skipped}
	if result.Fault != nil {
		answer.Fault = oneLine(result.Fault)
	}
	return answer
}

// oneLine is an error as a line of bounded length.
func oneLine(err error) string {
	s := strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "?")
	return s[:min(len(s), 500)]
}

// errNoAnswer says that the helper ended.
var errNoAnswer = errors.New("the helper that raises events ended")
