//go:build remote

package podman

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	podmancopy "github.com/containers/podman/v5/pkg/copy"

	"github.com/rockpool/rootvm/agent"
)

// entry is what a workspace's user left at a path.
type entry struct {
	mode    fs.FileMode
	content string
	size    int64 // of zeros, instead of content
	changed time.Time
	target  string // of a link: absolute
	swapped *entry // what is there once it was looked at
}

// service is a Podman service that knows one workspace's files, by path, and
// answers as versions 4.3 and 5 do.
type service struct {
	t     *testing.T
	files map[string]*entry
	fail  string // the text of its answer to all that is asked for an archive
}

// maxAnswer is what the agent may at most take of one answer, in bytes: the
// largest file, and what buffers on the way hold.
const maxAnswer = agent.MaxFileSize + 1<<20

// follow returns what the links at a path lead to.
func (s *service) follow(name string) (*entry, error) {
	for range 16 {
		e := s.files[name]
		if e == nil {
			return nil, podmancopy.ErrENOENT
		}
		if e.target == "" {
			return e, nil
		}
		name = e.target
	}
	return nil, fmt.Errorf("copier: stat: error resolving %q: open %s: too many levels of symbolic links", name, name)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/_ping") {
		w.Header().Set("Libpod-API-Version", "5.4.2")
		return
	}
	refuse := func(status int, text string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"cause":%q,"message":%q,"response":%d}`, text, text, status)
	}
	name := r.URL.Query().Get("path")
	e, err := s.follow(name)
	if own := s.files[name]; own != nil && (err == nil || errors.Is(err, podmancopy.ErrENOENT)) {
		size := max(own.size, int64(len(own.content)))
		info, err := podmancopy.EncodeFileInfo(&podmancopy.FileInfo{Name: path.Base(name), Mode: own.mode, Size: size, IsDir: e != nil && e.mode.IsDir(), ModTime: own.changed})
		if err != nil {
			s.t.Error(err)
		}
		w.Header().Set(podmancopy.XDockerContainerPathStatHeader, info)
	}
	switch {
	case errors.Is(err, podmancopy.ErrENOENT):
		refuse(http.StatusNotFound, err.Error())
	case err != nil:
		refuse(http.StatusInternalServerError, err.Error())
	case r.Method == http.MethodHead:
		if own := s.files[name]; own.swapped != nil {
			s.files[name] = own.swapped
		}
	case s.fail != "":
		refuse(http.StatusInternalServerError, s.fail)
	default:
		s.archive(w, name, e)
	}
}

// archive sends a file, or a directory and what is in it.
func (s *service) archive(w http.ResponseWriter, name string, e *entry) {
	out := &measured{t: s.t, w: w}
	archive := tar.NewWriter(out)
	send(archive, path.Base(name), e)
	if e.mode.IsDir() {
		for inside, e := range s.files {
			if path.Dir(inside) == name {
				send(archive, path.Base(name)+"/"+path.Base(inside), e)
			}
		}
	}
	_ = archive.Close()
}

// send writes one entry; what fails is the reader's leaving.
func send(archive *tar.Writer, name string, e *entry) {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: max(e.size, int64(len(e.content))), ModTime: e.changed, Format: tar.FormatPAX}
	switch {
	case e.mode.IsDir():
		header.Typeflag = tar.TypeDir
	case e.target != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.target
	}
	if archive.WriteHeader(header) != nil {
		return
	}
	_, _ = archive.Write([]byte(e.content))
	zeros := make([]byte, 64<<10)
	for left := e.size; left > 0; left -= int64(len(zeros)) {
		if _, err := archive.Write(zeros[:min(left, int64(len(zeros)))]); err != nil {
			return
		}
	}
}

// measured ends an answer of which too much is read.
type measured struct {
	t    *testing.T
	w    http.ResponseWriter
	sent int
}

func (m *measured) Write(b []byte) (int, error) {
	if m.sent += len(b); m.sent > maxAnswer {
		m.t.Errorf("more than %d bytes were read", maxAnswer)
		panic(http.ErrAbortHandler)
	}
	return m.w.Write(b)
}

// readFrom reads the IDE's configuration of a workspace.
func readFrom(t *testing.T, s *service, told bool) (map[string][]byte, time.Time, error) {
	t.Helper()
	s.t = t
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s)
	server.Listener = l
	server.Start()
	defer server.Close()
	var there map[string][]byte
	var changed time.Time
	err = (&Engine{Socket: socket}).call(t.Context(), "configure", func(ctx context.Context) (err error) {
		there, changed, err = readConfig(ctx, id, told)
		return err
	})
	return there, changed, err
}

func TestReadConfig(t *testing.T) {
	const config, folder = "abs-proxy-base-path: /workspace/one\n", "/home/admin/x\n"
	early, late := time.Unix(1000, 0), time.Unix(2000, 0)
	dir := func() *entry { return &entry{mode: fs.ModeDir | 0o755} }
	plain := func(content string, changed time.Time) *entry {
		return &entry{mode: 0o644, content: content, changed: changed}
	}
	link := func(target string) *entry { return &entry{mode: fs.ModeSymlink | 0o777, target: target, changed: late} }
	huge := &entry{mode: 0o644, size: 1 << 40, changed: late} // a sparse one takes no room
	for name, tt := range map[string]struct {
		config, folder *entry
		told           bool
		want           [2]string
		changed        time.Time
	}{
		"both":              {plain(config, early), plain(folder, late), false, [2]string{config, folder}, late},
		"both, told":        {plain(config, late), plain(folder, early), true, [2]string{config, folder}, early},
		"none":              {nil, nil, false, [2]string{}, time.Time{}},
		"no folder":         {plain(config, early), nil, false, [2]string{config, ""}, early},
		"a huge one":        {huge, plain(folder, early), false, [2]string{"", folder}, early},
		"grows meanwhile":   {&entry{mode: 0o644, content: config, swapped: huge}, plain(folder, early), false, [2]string{"", folder}, early},
		"becomes a folder":  {&entry{mode: 0o644, content: config, swapped: dir()}, plain(folder, early), false, [2]string{"", folder}, early},
		"goes away":         {&entry{mode: 0o644, content: config, swapped: link("/nowhere")}, plain(folder, early), false, [2]string{"", folder}, early},
		"link to a file":    {link("/elsewhere"), plain(folder, early), false, [2]string{"", folder}, early},
		"link to nothing":   {link("/nowhere"), plain(folder, early), false, [2]string{"", folder}, early},
		"link to itself":    {link(configFile), plain(folder, early), false, [2]string{"", folder}, early},
		"link to directory": {link(configDir), plain(folder, early), false, [2]string{"", folder}, early},
		"directory":         {dir(), plain(folder, early), false, [2]string{"", folder}, early},
	} {
		t.Run(name, func(t *testing.T) {
			s := &service{files: map[string]*entry{configDir: dir(), configDir + "/core": huge, "/elsewhere": plain("private", late)}}
			for i := range 8 {
				s.files[fmt.Sprintf("%s/%d", configDir, i)] = &entry{mode: 0o644, size: agent.MaxFileSize}
			}
			for name, e := range map[string]*entry{configFile: tt.config, folderFile: tt.folder} {
				if e != nil {
					s.files[name] = e
				}
			}
			there, changed, err := readFrom(t, s, tt.told)
			got := [2]string{string(there[path.Base(configFile)]), string(there[path.Base(folderFile)])}
			if err != nil || got != tt.want || !changed.Equal(tt.changed) {
				t.Errorf("%q %s %v, want %q %s", got, changed, err, tt.want, tt.changed)
			}
			for name := range there {
				if name != path.Base(configFile) && name != path.Base(folderFile) {
					t.Errorf("%s was read as well", name)
				}
			}
		})
	}
}

// TestReadConfig_fault: what Podman cannot do is not taken for a missing file,
// which would be written and the IDE started again.
func TestReadConfig_fault(t *testing.T) {
	s := &service{files: map[string]*entry{configFile: {mode: 0o644, content: "x"}}, fail: "database is locked"}
	if there, _, err := readFrom(t, s, false); err == nil || !strings.Contains(err.Error(), s.fail) {
		t.Errorf("%q, %v", there, err)
	}
}
