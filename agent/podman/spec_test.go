//go:build remote

package podman

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/errorhandling"
	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rockpool/rootvm/agent"
)

const id = "0000000000000000000000001"

var one = agent.Container{ID: id, Name: "one", Port: 20001, Slot: 3}

var shown = agent.FilesView{Root: "/run/shown/one/root", Home: "/run/shown/one/home"}

func carriedImage() image {
	return image{Reference: agent.DefaultImage, Digest: "sha256:1", Config: ociv1.ImageConfig{
		User: "admin", Env: []string{"HOME=/home/admin", "EMPTY="}, Entrypoint: []string{"/usr/bin/tini", "--"}, Cmd: []string{"ide"},
		WorkingDir: "/home/admin", StopSignal: "SIGTERM",
	}}
}

// TestNewSpec compares what Podman is asked for with golden files, one for
// each kind of image and network.
func TestNewSpec(t *testing.T) {
	own := one
	own.Image = "example.org/ide:1"
	ownImage := image{Reference: own.Image, Digest: "sha256:2", Config: ociv1.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"ide"}}}
	for name, tt := range map[string]struct {
		c agent.Container
		i image
		n network
	}{
		"carried-pasta":     {one, carriedImage(), pasta},
		"carried-slirp":     {one, carriedImage(), slirp},
		"own-image-pasta":   {own, ownImage, pasta},
		"own-image-no-slot": {agent.Container{ID: id, Name: "one", Image: own.Image, Port: 20001}, ownImage, pasta},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := newSpec(tt.c, tt.i, shown, tt.n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(spec, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".json")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != string(got)+"\n" {
				t.Errorf("differs from %s (%v); rewrite it with UPDATE=1:\n%s", golden, err, got)
			}
		})
	}
}

// TestNewSpec_hash: every value that makes another container changes the
// digest, and nothing else does.
func TestNewSpec_hash(t *testing.T) {
	hash := func(change func(*agent.Container, *image)) string {
		c, i := one, carriedImage()
		change(&c, &i)
		s, err := newSpec(c, i, shown, pasta)
		if err != nil {
			t.Fatal(err)
		}
		return s.Labels[labelSpec]
	}
	same := hash(func(*agent.Container, *image) {})
	if again := hash(func(*agent.Container, *image) {}); again != same {
		t.Errorf("%s, then %s", same, again)
	}
	if hash(func(c *agent.Container, _ *image) { c.Memory = 6 << 30 }) != same {
		t.Error("another limit of the memory makes another container")
	}
	if hash(func(c *agent.Container, _ *image) { c.Quota = 6 << 30 }) != same {
		t.Error("another quota makes another container")
	}
	for name, change := range map[string]func(*agent.Container, *image){
		"name":   func(c *agent.Container, _ *image) { c.Name = "two" },
		"port":   func(c *agent.Container, _ *image) { c.Port++ },
		"slot":   func(c *agent.Container, _ *image) { c.Slot++ },
		"image":  func(c *agent.Container, _ *image) { c.Image = agent.DefaultImage },
		"digest": func(_ *agent.Container, i *image) { i.Digest = "sha256:2" },
		"user":   func(_ *agent.Container, i *image) { i.Config.User = "root" },
	} {
		if hash(change) == same {
			t.Errorf("another %s is the same container", name)
		}
	}
}

// TestNewSpec_restricted names what must hold whatever else changes.
func TestNewSpec_restricted(t *testing.T) {
	for _, n := range []network{pasta, slirp} {
		s, err := newSpec(one, carriedImage(), shown, n)
		if err != nil {
			t.Fatal(err)
		}
		if p := s.PortMappings; len(p) != 1 || p[0].HostIP != "127.0.0.1" || p[0].HostPort != 20001 || p[0].ContainerPort != agent.IDEPort {
			t.Errorf("ports: %+v", p)
		}
		if s.IsPrivileged() || len(s.CapAdd) > 0 || len(s.Volumes) > 0 || len(s.Devices) > 0 || s.SeccompProfilePath != "" || len(s.Unmask) > 0 {
			t.Errorf("more than a workspace needs: %+v", s.ContainerSecurityConfig)
		}
		if s.Rootfs != shown.Root || len(s.Mounts) != 1 || s.Mounts[0].Source != shown.Home || s.Mounts[0].Destination != agent.Home {
			t.Errorf("more than its files are in it: %s, %+v", s.Rootfs, s.Mounts)
		}
		if m := s.IDMappings.UIDMap; len(m) != 1 || m[0].ContainerID != 0 || m[0].HostID != 1+4*65536 || m[0].Size != 65536 {
			t.Errorf("ids: %+v", m)
		}
		o := strings.Join(s.NetworkOptions[string(n)], " ")
		if n == slirp && !strings.Contains(o, "allow_host_loopback=false") || n == pasta && (!strings.Contains(o, "--no-map-gw") || !strings.Contains(o, "--map-guest-addr none")) {
			t.Errorf("%s: %s", n, o)
		}
	}
}

func TestCarried(t *testing.T) {
	good := fstest.MapFS{
		"config.json": {Data: []byte(`{"config":{"User":"admin"}}`)},
		"digest":      {Data: []byte("sha256:1\n")},
	}
	i, err := Carried{good}.read()
	if err != nil || i.Config.User != "admin" || i.Digest != "sha256:1" {
		t.Errorf("%+v %v", i, err)
	}
	if _, err := (Carried{fstest.MapFS{}}).read(); agent.ErrorCode(err) != agent.CodeValidation {
		t.Errorf("no image: %v", err)
	}
	if _, err := (Carried{fstest.MapFS{"config.json": {Data: []byte("{")}}}).read(); err == nil {
		t.Error("a broken configuration is accepted")
	}
}

func TestFault(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		code string
	}{
		"none":         {t.Context(), nil, ""},
		"ours":         {t.Context(), agent.Errorf(agent.CodeConflict, "x"), agent.CodeConflict},
		"missing":      {t.Context(), &errorhandling.ErrorModel{ResponseCode: http.StatusNotFound}, agent.CodeNotFound},
		"full":         {t.Context(), &errorhandling.ErrorModel{ResponseCode: 500, Message: "write x: no space left on device"}, agent.CodeNoSpace},
		"its database": {t.Context(), &errorhandling.ErrorModel{ResponseCode: 500, Message: "beginning transaction: database or disk is full"}, agent.CodeNoSpace},
		"down":         {t.Context(), bindings.ConnectError{Err: errors.New("refused")}, agent.CodeUnavailable},
		"other":        {t.Context(), &errorhandling.ErrorModel{ResponseCode: 500, Message: "boom"}, agent.CodeInternal},
		"cancelled":    {done, bindings.ConnectError{Err: errors.New("closed")}, agent.CodeInternal},
	} {
		if got := fault(tt.ctx, "op", tt.err); agent.ErrorCode(got) != tt.code {
			t.Errorf("%s: %v, want code %q", name, got, tt.code)
		}
	}
	if err := fault(done, "op", errors.New("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestEngine_down: a socket that is not there is what jobs wait for.
func TestEngine_down(t *testing.T) {
	e := &Engine{Socket: filepath.Join(t.TempDir(), "none.sock"), Storage: &memory{}, Now: time.Now}
	if _, err := e.Status(t.Context(), id); agent.ErrorCode(err) != agent.CodeUnavailable {
		t.Errorf("status: %v", err)
	}
	if _, err := e.List(t.Context()); agent.ErrorCode(err) != agent.CodeUnavailable {
		t.Errorf("list: %v", err)
	}
}

func TestReadCgroup(t *testing.T) {
	cgroups := fstest.MapFS{
		"a/memory.current": {Data: []byte("3000\n")},
		"a/memory.stat":    {Data: []byte("anon 1\ninactive_file 1000\n")},
		"a/memory.max":     {Data: []byte("4096\n")},
		"a/pids.current":   {Data: []byte("7\n")},
		"a/cpu.stat":       {Data: []byte("usage_usec 2000000\nuser_usec 1\n")},
		"b/memory.max":     {Data: []byte("max\n")},

		"old/memory.current":       {Data: []byte("3000\n")},
		"old/memory.stat":          {Data: []byte("inactive_file 1000\n")},
		"old/memory.max":           {Data: []byte("max\n")},
		"old/pids.current":         {Data: []byte("7\n")},
		"old/cpu.stat":             {Data: []byte("usage_usec 2000000\n")},
		"old/container/memory.max": {Data: []byte("4096\n")},
	}
	for _, dir := range []string{"a", "old"} {
		u, used, err := readCgroup(cgroups, dir)
		if err != nil || u != (agent.Usage{Memory: 2000, MemoryLimit: 4096, Pids: 7}) || used != 2*time.Second {
			t.Errorf("%s: %+v %s %v", dir, u, used, err)
		}
	}
	if _, _, err := readCgroup(cgroups, "b"); err == nil {
		t.Error("a group without files is read")
	}
}

func TestEngine_cpu(t *testing.T) {
	var e Engine
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	for _, tt := range []struct {
		used    time.Duration
		at      time.Time
		started time.Time
		want    float64
	}{
		{2 * time.Second, at(4), start, 0.5},
		{4 * time.Second, at(5), start, 2},
		{4 * time.Second, at(5), start, 0}, // no time has passed
		{time.Second, at(8), at(6), 0.5},   // started again
	} {
		if got := e.cpu(id, cpuSample{tt.used, tt.at}, tt.started); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestCloneResult: what git says is passed on, but not the token.
func TestTail(t *testing.T) {
	var got tail
	all := bytes.Repeat([]byte("0123456789"), 5000)
	for chunk := range slices.Chunk(all, 777) {
		if n, err := got.Write(chunk); n != len(chunk) || err != nil {
			t.Fatal(n, err)
		}
	}
	if !bytes.Equal(got, all[len(all)-maxOutput:]) {
		t.Errorf("%d bytes, not the last %d", len(got), maxOutput)
	}
}

func FuzzOnlyFile(f *testing.F) {
	archive, err := pack([]file{{name: "x", mode: 0o644, content: []byte("content")}}, time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(archive)
	f.Add(archive[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := onlyFile(bytes.NewReader(b), "x")
		if err == nil && len(got) > agent.MaxFileSize {
			t.Errorf("%d bytes", len(got))
		}
	})
}
