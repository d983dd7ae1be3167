package slots_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/slots"
)

func views(t *testing.T, subuids string) slots.Views {
	t.Helper()
	dir := t.TempDir()
	v := slots.Views{
		Rootfs:  filepath.Join(dir, "rootfs"),
		Dir:     filepath.Join(dir, "views"),
		SubUIDs: filepath.Join(dir, "subuid"),
		User:    "rockpool",
	}
	if err := os.WriteFile(v.SubUIDs, []byte(subuids), 0o644); err != nil {
		t.Fatal(err)
	}
	return v
}

const enough = "admin:1:65536\nrockpool:100000:16842752\n"

// TestViews_Answer_refuses everything but one number in range, and makes
// nothing then.
func TestViews_Answer_refuses(t *testing.T) {
	for name, tt := range map[string]struct{ request, subuids, want string }{
		"nothing":        {"", enough, "not the number"},
		"no line end":    {"1", enough, "not the number"},
		"too large":      {"256\n", enough, "not a number from 0 to 255"},
		"negative":       {"-1\n", enough, "not a number from 0 to 255"},
		"leading zero":   {"01\n", enough, "not a number"},
		"path":           {"../x\n", enough, "not a number"},
		"long":           {strings.Repeat("1", 100) + "\n", enough, "not the number"},
		"space":          {"1 \n", enough, "not a number"},
		"range ends":     {"255\n", "rockpool:100000:16842751\n", "gives rockpool 16842751 ids, slot 255 needs 16842752"},
		"no range":       {"0\n", "admin:1:65536\n", "gives no ids to rockpool"},
		"broken range":   {"0\n", "rockpool:x:65536\n", "invalid syntax"},
		"no image":       {"0\n", enough, "the workspace image of this VM is missing"},
		"no image, last": {"255\n", enough, "the workspace image of this VM is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			v := views(t, tt.subuids)
			err := v.Answer(strings.NewReader(tt.request), &out)
			if err == nil || !strings.HasPrefix(out.String(), "error: ") || !strings.Contains(out.String(), tt.want) || strings.Count(out.String(), "\n") != 1 {
				t.Errorf("error %v, answer %q, want %q", err, &out, tt.want)
			}
			if made, err := filepath.Glob(v.Dir + "/[0-9]*"); err != nil || made != nil {
				t.Errorf("made %q, %v", made, err)
			}
		})
	}
}

// TestViews_Ensure mounts for real: as root, on a file system that can map.
func TestViews_Ensure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make views: run the tests as root")
	}
	v := views(t, enough)
	if err := os.MkdirAll(v.Rootfs+"/home", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(v.Rootfs+"/home", 1000, 1001); err != nil {
		t.Fatal(err)
	}
	path, err := v.Ensure(3)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		t.Skipf("this machine or the file system of its temporary directory cannot map ids (%v): set TMPDIR to an ext4 directory", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Error(err)
		}
	})
	again, err := v.Ensure(3)
	if err != nil || again != path {
		t.Errorf("again: %q, %v", again, err)
	}
	st, err := os.Stat(path + "/home")
	if err != nil {
		t.Fatal(err)
	}
	first := uint32(100000 + 4*agent.SlotSize)
	if s := st.Sys().(*syscall.Stat_t); s.Uid != first+1000 || s.Gid != first+1001 {
		t.Errorf("owner %d:%d, want %d:%d", s.Uid, s.Gid, first+1000, first+1001)
	}
	if err := os.WriteFile(path+"/x", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a view: %v", err)
	}
}

// TestClient talks to [slots.Views.Answer] as through systemd's socket.
func TestClient(t *testing.T) {
	v := views(t, enough)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = v.Answer(c, c)
			_ = c.Close()
		}
	}()
	c := slots.Client{Socket: socket}
	for _, slot := range []int{7, 256} {
		if path, err := c.View(t.Context(), slot); err == nil || !strings.Contains(err.Error(), "view of slot "+strconv.Itoa(slot)) {
			t.Errorf("slot %d: %q, %v", slot, path, err)
		}
	}
	if _, err := (slots.Client{Socket: socket + "no"}).View(t.Context(), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
}

func FuzzViews_Answer(f *testing.F) {
	f.Add("0\n")
	f.Add("255\n")
	f.Add("-0\n")
	f.Fuzz(func(t *testing.T, request string) {
		var out bytes.Buffer
		v := views(t, enough)
		_ = v.Answer(strings.NewReader(request), &out)
		if strings.Count(out.String(), "\n") != 1 || !strings.HasPrefix(out.String(), "error: ") {
			t.Errorf("%q: %q", request, &out)
		}
	})
}
