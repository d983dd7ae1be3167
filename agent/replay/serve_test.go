package replay_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent/replay"
	"github.com/rockpool/rootvm/guest"
)

// TestServe: a gap and another epoch are answered by asking for a greeting, and
// a greeting by how far the stream is.
func TestServe(t *testing.T) {
	s := mountShare(t)
	write(t, "x", s.host, "f")
	change := []guest.FileChange{{Op: guest.FileModified, Path: "f", ModTime: 1 << 62}}
	var in bytes.Buffer
	for _, b := range []guest.FileBatch{
		{Epoch: "a", Seq: 1, Changes: change}, // before a greeting
		{Epoch: "a"},
		{Epoch: "a", Seq: 1, Through: 7, Changes: change},
		{Epoch: "a", Seq: 3, Changes: change}, // 2 was lost
		{Epoch: "a"},
		{Epoch: "a", Seq: 2, Changes: []guest.FileChange{{Op: guest.FileDeleted, Path: "gone"}}},
		{Epoch: "b"}, // of another supervisor
	} {
		do(t, json.NewEncoder(&in).Encode(b))
	}
	var out bytes.Buffer
	do(t, replay.Serve(t.Context(), &in, &out, &replay.Replayer{Dir: s.guest}))
	want := `{}
{"epoch":"a","greeting":true}
{"epoch":"a","seq":1,"replayed":1}
{}
{"epoch":"a","greeting":true,"seq":1,"through":7}
{"epoch":"a","seq":2,"replayed":1}
{"epoch":"b","greeting":true,"through":7}
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
	for _, bad := range []string{"{", `{"epoch":"a","seq":1,"changes":[{"op":"modified","path":"../f"}]}`, `{"epoch":"a","changes":[{"op":"written","path":"f"}]}`, `{}`} {
		if err := replay.Serve(t.Context(), strings.NewReader(bad+"\n"), &out, &replay.Replayer{Dir: s.guest}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestClient: a helper that ends, or is not there, is made good by asking the
// host for a greeting.
func TestClient(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	client := replay.NewClient(socket, time.Millisecond, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); client.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	answers := make(chan guest.FileAnswer, 8)
	say := func(a guest.FileAnswer) { answers <- a }
	expect := func(want guest.FileAnswer) {
		t.Helper()
		select {
		case got := <-answers:
			if got != want {
				t.Fatalf("%+v, want %+v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing was said, want %+v", want)
		}
	}

	client.Take(guest.FileBatch{Epoch: "a"}, say)
	expect(guest.FileAnswer{}) // there is no helper yet
	l, err := net.Listen("unix", socket)
	do(t, err)
	defer l.Close()
	for range 2 {
		client.Take(guest.FileBatch{Epoch: "a"}, say)
		helper, err := l.Accept()
		do(t, err)
		line, err := bufio.NewReader(helper).ReadString('\n')
		if err != nil || !strings.Contains(line, `"epoch":"a"`) {
			t.Fatalf("%q, %v", line, err)
		}
		do(t, json.NewEncoder(helper).Encode(guest.FileAnswer{Epoch: "a", Greeting: true}))
		expect(guest.FileAnswer{Epoch: "a", Greeting: true})
		do(t, helper.Close())
		expect(guest.FileAnswer{})
	}
}
