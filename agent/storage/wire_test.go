package storage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/storage"
)

// recorder is a storage that does nothing and remembers what it was told.
type recorder struct {
	calls []string
	err   error
	wait  bool // until who asked is gone
	gone  chan error
}

func (r *recorder) call(format string, args ...any) error {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	return r.err
}

func (r *recorder) Open(ctx context.Context, f agent.Files, report func(string)) (agent.FilesView, error) {
	report("one of two")
	report("two of two")
	if r.wait {
		<-ctx.Done()
		r.gone <- context.Cause(ctx)
	}
	return agent.FilesView{Root: "/root of " + f.ID, Home: "/home"}, r.call("open %+v", f)
}

func (r *recorder) Close(_ context.Context, id string) error  { return r.call("close %s", id) }
func (r *recorder) Remove(_ context.Context, id string) error { return r.call("remove %s", id) }
func (r *recorder) SetQuota(_ context.Context, id string, quota int64) error {
	return r.call("quota %s %d", id, quota)
}
func (r *recorder) ChangeImage(_ context.Context, id, digest string) error {
	return r.call("change %s %s", id, digest)
}
func (r *recorder) Usage(context.Context) (agent.StorageUsage, error) {
	u := agent.StorageUsage{Size: 1 << 40, Free: 1 << 39}
	for n := range agent.ContainerSlots { // more than fits a line of other programs
		u.Files = append(u.Files, agent.FilesUsage{Files: files(n, giga), Used: int64(n), Open: true})
	}
	return u, r.call("usage")
}
func (r *recorder) AddImage(_ context.Context, digest string, archive io.Reader) error {
	n, err := io.Copy(io.Discard, archive)
	return errors.Join(r.call("add %s of %d bytes", digest, n), err)
}
func (r *recorder) KeepImage(context.Context) error { return r.call("keep") }
func (r *recorder) RemoveImage(_ context.Context, digest string) error {
	return r.call("remove image %s", digest)
}

// serve answers requests at a socket as systemd's unit does.
func serve(t testing.TB, s agent.Storage) storage.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = storage.Answer(context.Background(), c, c, s)
				_ = c.Close()
			}()
		}
	}()
	return storage.Client{Socket: socket}
}

// TestClient asks for everything, and gets it, or why not.
func TestClient(t *testing.T) {
	r := &recorder{}
	c := serve(t, r)
	ctx, id := t.Context(), testID(7)
	var reports []string
	view, err := c.Open(ctx, files(7, giga), func(text string) { reports = append(reports, text) })
	if want := (agent.FilesView{Root: "/root of " + id, Home: "/home"}); err != nil || view != want {
		t.Errorf("open: %+v, %v", view, err)
	}
	if want := []string{"one of two", "two of two"}; !slices.Equal(reports, want) {
		t.Errorf("reports %q", reports)
	}
	u, err := c.Usage(ctx)
	if want, _ := (&recorder{}).Usage(ctx); err != nil || !reflect.DeepEqual(u, want) {
		t.Errorf("usage: %+v, %v", u, err)
	}
	large := bytes.Repeat([]byte("x"), 3*mega+1)
	err = errors.Join(c.Close(ctx, id), c.Remove(ctx, id), c.SetQuota(ctx, id, 5), c.ChangeImage(ctx, id, otherImage),
		c.AddImage(ctx, otherImage, bytes.NewReader(large)), c.KeepImage(ctx), c.RemoveImage(ctx, otherImage))
	if err != nil {
		t.Error(err)
	}
	want := []string{
		fmt.Sprintf("open %+v", files(7, giga)), "usage", "close " + id, "remove " + id, "quota " + id + " 5",
		"change " + id + " " + otherImage, "add " + otherImage + " of 3145729 bytes", "keep", "remove image " + otherImage,
	}
	if !slices.Equal(r.calls, want) {
		t.Errorf("calls\n%q, want\n%q", r.calls, want)
	}
}

// TestClient_errors have the code that they had on the other side.
func TestClient_errors(t *testing.T) {
	for name, tt := range map[string]struct {
		err        error
		code, text string
	}{
		"conflict": {fmt.Errorf("close: %w", agent.Errorf(agent.CodeConflict, "in use by sh (12)")), agent.CodeConflict, "in use by sh (12)"},
		"disk":     {fmt.Errorf("copy: %w", unix.ENOSPC), agent.CodeNoSpace, "is full"},
		"quota":    {fmt.Errorf("copy: %w", unix.EDQUOT), agent.CodeNoSpace, "is full"},
		"other":    {errors.New("strange"), agent.CodeInternal, "strange"},
	} {
		c := serve(t, &recorder{err: tt.err})
		if err := c.Close(t.Context(), testID(1)); agent.ErrorCode(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (storage.Client{Socket: filepath.Join(t.TempDir(), "none")}).Close(t.Context(), testID(1)); err == nil {
		t.Error("closed by nobody")
	}
}

// TestClient_AddImage_cut does not have an archive that cannot be read taken for
// whole, nor waits for one that nobody wants.
func TestClient_AddImage_cut(t *testing.T) {
	r := &recorder{}
	c := serve(t, r)
	broken := io.MultiReader(strings.NewReader("half"), cut{strings.NewReader("")})
	if err := c.AddImage(t.Context(), otherImage, broken); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken archive: %v", err)
	}
	c = serve(t, refusing{r})
	endless := &endless{}
	if err := c.AddImage(t.Context(), otherImage, endless); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("one that is not wanted: %v", err)
	}
	if err := serve(t, there{r}).AddImage(t.Context(), otherImage, endless); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// refusing refuses images unread, there has them all.
type (
	refusing struct{ *recorder }
	there    struct{ *recorder }
)

func (refusing) AddImage(context.Context, string, io.Reader) error {
	return agent.Errorf(agent.CodeConflict, "no")
}
func (there) AddImage(context.Context, string, io.Reader) error { return nil }

// endless is an archive without an end.
type endless struct{}

func (*endless) Read(b []byte) (int, error) { return len(b), nil }

// TestAnswer_gone stops what is done for who went away.
func TestAnswer_gone(t *testing.T) {
	r := &recorder{wait: true, gone: make(chan error, 1)}
	c := serve(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Open(ctx, files(1, giga), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	select {
	case <-r.gone:
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

// requests that are none.
var badRequests = []string{
	"", "\n", "open", `{"verb":"open"}`, `{"verb":"format"}` + "\n", `{"verb":"close","path":"/etc"}` + "\n",
	`{"verb":"close"}{"verb":"close"}` + "\n", `["close"]` + "\n", `{"verb":"open","slot":"1"}` + "\n",
	`{"verb":"open","slot":1e99}` + "\n", `{"verb":"close","id":"` + strings.Repeat("0", 2000) + `"}` + "\n",
}

// TestAnswer_refuses what is no request, and does nothing.
func TestAnswer_refuses(t *testing.T) {
	for _, request := range badRequests {
		r := &recorder{}
		var out bytes.Buffer
		if err := storage.Answer(t.Context(), strings.NewReader(request), &out, r); err == nil || len(r.calls) > 0 {
			t.Errorf("%q: %v, did %q", request, err, r.calls)
		}
		if !strings.Contains(out.String(), `"error":"`) || strings.Contains(out.String(), `"done"`) {
			t.Errorf("%q: answer %q", request, &out)
		}
	}
}

// FuzzPool_Answer has a pool answer requests that name what no request may. Its
// directories cannot be made, so one that is not refused before fails otherwise.
func FuzzPool_Answer(f *testing.F) {
	for _, request := range badRequests {
		f.Add([]byte(request))
	}
	for _, verb := range []string{"open", "close", "remove", "set-quota", "change-image", "add-image", "remove-image"} {
		for _, id := range []string{"", "..", "../../etc", "/etc/passwd", testID(1)[1:] + "/", strings.ToUpper(testID(1)[1:]) + "A"} {
			f.Add(fmt.Appendf(nil, `{"verb":%q,"id":%q,"image":"sha256:../../etc","slot":300,"quota":-1}`+"\n", verb, id))
		}
	}
	file := filepath.Join(f.TempDir(), "file")
	write(f, file, "")
	p := &storage.Pool{Dir: file + "/pool", RunDir: file + "/run", Image: file, Containers: file, SubUIDs: file, User: "rockpool"}
	f.Fuzz(func(t *testing.T, request []byte) {
		var out bytes.Buffer
		err := storage.Answer(t.Context(), bytes.NewReader(request), &out, p)
		if err == nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("%q: answer %q, %v", request, &out, err)
		}
		var m struct{ Verb, ID, Image string }
		if agent.ErrorCode(err) == agent.CodeInternal && !strings.HasPrefix(err.Error(), "the request is ") && json.Unmarshal(request, &m) == nil {
			// It was let in: then what it names is right.
			byID := slices.Contains([]string{"open", "close", "remove", "set-quota", "change-image"}, m.Verb)
			byImage := slices.Contains([]string{"open", "change-image", "add-image", "remove-image"}, m.Verb)
			if byID && !agent.ValidID(m.ID) || byImage && !agent.ValidDigest(m.Image) {
				t.Errorf("%q was let in: %v", request, err)
			}
		}
	})
}
