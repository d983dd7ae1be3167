package stub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/runtimetest"
	"github.com/rockpool/rootvm/agent/stub"
)

var (
	_ agent.Runtime   = (*stub.Runtime)(nil)
	_ agent.Inventory = (*stub.Runtime)(nil)
	_ agent.Observer  = (*stub.Runtime)(nil)
	_ agent.IDEHealth = (*stub.Runtime)(nil)
)

const id = "0000000000000000000000001"

// freePort is below the range from which outgoing connections are given
// theirs, so that it stays free between its uses.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 21000 + rand.IntN(10000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func TestRuntime_Contract(t *testing.T) {
	for name, serve := range map[string]bool{"silent": false, "serving": true} {
		t.Run(name, func(t *testing.T) {
			r := stub.New(stub.Options{Serve: serve})
			t.Cleanup(r.Close)
			runtimetest.Run(t, runtimetest.Subject{
				Runtime: r, Files: r, Inventory: r, Observer: r, Memory: r, Terminator: r, Health: r,
				Ports: [2]int{freePort(t), freePort(t)}, Slots: [2]int{0, 1}, Repository: "https://git.example/a/b",
			})
		})
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Probe", "yes")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRuntime_Serve(t *testing.T) {
	r := stub.New(stub.Options{Serve: true})
	t.Cleanup(r.Close)
	if err := errors.Join(
		r.Create(t.Context(), agent.Container{ID: id, Name: "page-1", Port: freePort(t)}),
		r.Start(t.Context(), id),
	); err != nil {
		t.Fatal(err)
	}
	address, err := r.Address(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/healthz": "alive", "/some/page": "<h1>page-1</h1>", "/a/echo?a=b": "X-Probe: yes"} {
		if got := get(t, "http://"+address+path); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", path, got, want)
		}
	}
	r.Kill(id)
	if got := get(t, "http://"+address+"/healthz"); !strings.Contains(got, "refused") {
		t.Errorf("a killed workspace answers %q", got)
	}
}

func TestRuntime_Hook(t *testing.T) {
	lost := errors.New("the answer got lost")
	var calls []stub.Call
	r := stub.New(stub.Options{Hook: func(_ context.Context, c stub.Call) error {
		calls = append(calls, c)
		if c.After {
			return lost
		}
		return nil
	}})
	if err := r.Create(t.Context(), agent.Container{ID: id}); !errors.Is(err, lost) {
		t.Errorf("error: %v", err)
	}
	if len(calls) != 2 || calls[0] != (stub.Call{Op: stub.OpCreate, ID: id}) || !calls[1].After {
		t.Errorf("calls: %+v", calls)
	}
	if status, _ := r.Status(t.Context(), id); status != agent.ContainerStopped {
		t.Errorf("status: %s: the effect must be there", status)
	}
}

func TestRuntime_Snapshot(t *testing.T) {
	r := stub.New(stub.Options{})
	if err := errors.Join(
		r.Create(t.Context(), agent.Container{ID: id, Name: "kept", Port: 1}),
		r.Start(t.Context(), id),
		r.WriteFile(t.Context(), id, "a", []byte("\xffb")),
	); err != nil {
		t.Fatal(err)
	}
	b, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again := stub.New(stub.Options{})
	if err := again.Restore(b); err != nil {
		t.Fatal(err)
	}
	if status, err := again.Status(t.Context(), id); err != nil || status != agent.ContainerRunning {
		t.Errorf("status: %s, %v", status, err)
	}
	if got, err := again.ReadFile(t.Context(), id, "a"); err != nil || string(got) != "\xffb" {
		t.Errorf("file: %q, %v", got, err)
	}
	if err := again.Restore([]byte("{")); err == nil {
		t.Error("half a snapshot was restored")
	}
}

// TestStorage: the stub's disk keeps what agent.Storage promises: who writes too
// much is told, closed files alone are removed and moved on, and images that files
// need stay.
func TestStorage(t *testing.T) {
	ctx := t.Context()
	r := stub.New(stub.Options{})
	s := r.Storage()
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(err error, code string) {
		t.Helper()
		if agent.ErrorCode(err) != code {
			t.Errorf("%v, want %s", err, code)
		}
	}

	c := agent.Container{ID: "one", Name: "one", Port: 20000, Slot: 3, Quota: 1000}
	must(r.Create(ctx, c), r.Start(ctx, "one"), r.WriteFile(ctx, "one", "a", make([]byte, 600)))
	refused(r.WriteFile(ctx, "one", "b", make([]byte, 600)), agent.CodeNoSpace)
	must(s.SetQuota(ctx, "one", 2000), r.WriteFile(ctx, "one", "b", make([]byte, 600)))
	must(s.SetQuota(ctx, "one", 500)) // below what is used
	refused(r.WriteFile(ctx, "one", "c", []byte("x")), agent.CodeNoSpace)
	r.DeleteFile("one", "a")
	r.DeleteFile("one", "b")
	must(r.WriteFile(ctx, "one", "c", []byte("x")))
	r.ResizeDisk(1)
	refused(r.WriteFile(ctx, "one", "c", []byte("xy")), agent.CodeNoSpace)
	r.ResizeDisk(0)
	refused(s.SetQuota(ctx, "none", 5), agent.CodeNotFound)

	refused(s.Remove(ctx, "one"), agent.CodeConflict)
	u, err := s.Usage(ctx)
	must(err)
	if len(u.Files) != 1 || u.Files[0] != (agent.FilesUsage{Files: agent.Files{ID: "one", Slot: 3, Image: stub.Digest, Quota: 500}, Used: 1, Open: true}) || u.Size-u.Free != 1 {
		t.Errorf("%+v", u)
	}
	_, err = s.Open(ctx, agent.Files{ID: "one", Slot: 4, Image: stub.Digest}, nil)
	refused(err, agent.CodeConflict)
	_, err = s.Open(ctx, agent.Files{ID: "two", Slot: 4, Image: "sha256:none"}, nil)
	refused(err, agent.CodeNotFound)

	must(s.AddImage(ctx, "sha256:x", strings.NewReader("12345")))
	_, err = s.Open(ctx, agent.Files{ID: "two", Slot: 4, Image: "sha256:x", Quota: 10}, nil)
	must(err)
	refused(s.RemoveImage(ctx, "sha256:x"), agent.CodeConflict)
	must(s.Close(ctx, "two"), s.Remove(ctx, "two"), s.RemoveImage(ctx, "sha256:x"), s.RemoveImage(ctx, "sha256:x"))
	must(r.Stop(ctx, "one", 0), s.Remove(ctx, "one"), s.Remove(ctx, "one"), s.Close(ctx, "one"))
}
