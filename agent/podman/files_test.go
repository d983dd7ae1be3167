//go:build remote

package podman

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
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
	target  string // of a link
	swapped *entry // what is there once it was looked at
}

// service is a Podman service that knows one workspace's files, by path, and
// answers as versions 4.3 and 5 do.
type service struct {
	t     *testing.T
	files map[string]*entry
	fail  string // the text of its answer to all that is asked for an archive

	labels  map[string]string // of the container
	started time.Time         // the container's present life
	starts  int               // how often it was started
	exec    func() (code int) // what a program does, with the files, that is run
	code    int               // of the last one
}

// maxAnswer is what the agent may at most take of one answer, in bytes: the
// largest file, and what buffers on the way hold.
const maxAnswer = agent.MaxFileSize + 1<<20

// follow returns what the links at a path lead to.
func (s *service) follow(name string) (*entry, error) {
	at := name
	for range 16 {
		e := s.files[name]
		if e == nil {
			return nil, podmancopy.ErrENOENT
		}
		if e.target == "" {
			return e, nil
		}
		if name = e.target; !path.IsAbs(name) {
			name = path.Join(path.Dir(at), name)
		}
		at = name
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
	switch action := path.Base(r.URL.Path); {
	case action == "json":
		fmt.Fprintf(w, `{"ExitCode":%d,"Config":{"Labels":{%q:%q,%q:%q}},"State":{"Status":"running","StartedAt":%q}}`, s.code, labelID, id, labelImage, s.labels[labelImage], s.started.Format(time.RFC3339Nano))
		return
	case action == "exec":
		fmt.Fprint(w, `{"Id":"session"}`)
		return
	case action == "start" && strings.Contains(r.URL.Path, "/exec/"):
		s.code = s.exec()
		s.attach(w)
		return
	case action == "remove":
		return
	case action == "stop", action == "start":
		if action == "start" {
			s.starts++
			s.started = s.started.Add(time.Minute)
		}
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method == http.MethodPut && s.fail != "":
		refuse(http.StatusInternalServerError, s.fail)
		return
	case r.Method == http.MethodPut:
		s.unpack(r)
		return
	}
	name := r.URL.Query().Get("path")
	e, err := s.follow(name)
	if own := s.files[name]; own != nil && (err == nil || errors.Is(err, podmancopy.ErrENOENT)) {
		size := max(own.size, int64(len(own.content)))
		info, err := podmancopy.EncodeFileInfo(&podmancopy.FileInfo{Name: path.Base(name), Mode: own.mode, Size: size, IsDir: e != nil && e.mode.IsDir(), ModTime: own.changed, LinkTarget: own.target})
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

// attach is a program's connection, at which nothing is said.
func (s *service) attach(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"); err != nil {
		s.t.Error(err)
	}
}

// unpack takes an archive of files.
func (s *service) unpack(r *http.Request) {
	archive := tar.NewReader(r.Body)
	for {
		h, err := archive.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.t.Error(err)
			}
			return
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			s.t.Error(err)
		}
		mode := fs.FileMode(h.Mode)
		if h.Typeflag == tar.TypeDir {
			mode |= fs.ModeDir
		}
		s.files[path.Join(r.URL.Query().Get("path"), h.Name)] = &entry{mode: mode, content: string(content), changed: h.ModTime}
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

// engineOf is an engine whose service s is.
func engineOf(t *testing.T, s *service) *Engine {
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
	t.Cleanup(server.Close)
	return &Engine{Socket: socket, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// call runs f with an engine of the service.
func (s *service) call(t *testing.T, f func(context.Context, *Engine) error) error {
	t.Helper()
	e := engineOf(t, s)
	return e.call(t.Context(), "configure", func(ctx context.Context) error { return f(ctx, e) })
}

// readFrom reads the IDE's configuration of a workspace.
func readFrom(t *testing.T, s *service) (there map[string][]byte, err error) {
	t.Helper()
	err = engineOf(t, s).call(t.Context(), "configure", func(ctx context.Context) (err error) {
		there, err = readConfig(ctx, id)
		return err
	})
	return there, err
}

// TestEngine_WriteFile: what a link leads to keeps its mode, and the link stays.
func TestEngine_WriteFile(t *testing.T) {
	link := func(target string) *entry { return &entry{mode: fs.ModeSymlink | 0o777, target: target} }
	s := &service{files: map[string]*entry{
		agent.Home: {mode: fs.ModeDir | 0o755}, "/etc": {mode: fs.ModeDir | 0o755},
		agent.Home + "/private":   {mode: 0o600, content: "old"},
		agent.Home + "/absolute":  link(agent.Home + "/private"),
		agent.Home + "/relative":  link("private"),
		agent.Home + "/second":    link("relative"),
		agent.Home + "/outside":   link("/etc/conf"),
		"/etc/conf":               {mode: 0o640, content: "old"},
		agent.Home + "/dangling":  link("none-yet"),
		agent.Home + "/itself":    link("itself"),
		agent.Home + "/directory": link("."),
	}}
	e := engineOf(t, s)
	for name, tt := range map[string]struct {
		target string
		mode   fs.FileMode
	}{
		"private":  {agent.Home + "/private", 0o600},
		"absolute": {agent.Home + "/private", 0o600},
		"relative": {agent.Home + "/private", 0o600},
		"second":   {agent.Home + "/private", 0o600},
		"outside":  {"/etc/conf", 0o640},
		"dangling": {agent.Home + "/none-yet", 0o644},
		"new":      {agent.Home + "/new", 0o644},
	} {
		if err := e.WriteFile(t.Context(), id, name, []byte(name)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := s.files[tt.target]; got == nil || got.content != name || got.mode != tt.mode {
			t.Errorf("%s: %+v, want mode %o", name, got, tt.mode)
		}
		if own := s.files[agent.Home+"/"+name]; own.target == "" && tt.target != agent.Home+"/"+name {
			t.Errorf("%s is no link any more", name)
		}
	}
	for _, name := range []string{"itself", "directory"} {
		if err := e.WriteFile(t.Context(), id, name, nil); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

// TestEngine_Configure: a container is started anew when its IDE does not know
// what was written, and then once; the times of the files, which are the
// workspace's to set, mean nothing.
func TestEngine_Configure(t *testing.T) {
	future, past := time.Now().Add(1000*time.Hour), time.Unix(1, 0)
	for name, image := range map[string]string{"carried": agent.DefaultImage, "own": "example/app"} {
		t.Run(name, func(t *testing.T) {
			s := &service{files: map[string]*entry{agent.Home: {mode: fs.ModeDir | 0o755}}, labels: map[string]string{labelImage: image}, started: time.Unix(1e9, 0)}
			e := engineOf(t, s)
			configure := func(e *Engine, what, folder string, starts int) {
				t.Helper()
				before := s.starts
				if err := e.Configure(t.Context(), id, agent.IDEConfig{Name: "demo", Folder: folder}); err != nil {
					t.Fatal(err)
				}
				if got := s.starts - before; got != starts {
					t.Errorf("%s: %d starts, want %d", what, got, starts)
				}
			}
			configure(e, "the first time", agent.Home+"/x", 1)
			configure(e, "again", agent.Home+"/x", 0)
			for _, f := range []string{configFile, folderFile} {
				s.files[f].changed = future
			}
			configure(e, "touched", agent.Home+"/x", 0)
			configure(e, "another folder", agent.Home+"/y", 1)
			configure(e, "again", agent.Home+"/y", 0)

			// An agent that is killed between writing and starting anew; the
			// workspace says that it was long ago.
			s.files[folderFile] = &entry{mode: 0o644, content: agent.Home + "/z\n", changed: past}
			next := &Engine{Socket: e.Socket, Now: e.Now, Log: e.Log}
			configure(next, "after a kill", agent.Home+"/z", 1)
			configure(next, "again", agent.Home+"/z", 0)
		})
	}
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
		want           [2]string
	}{
		"both":              {plain(config, early), plain(folder, late), [2]string{config, folder}},
		"none":              {nil, nil, [2]string{}},
		"no folder":         {plain(config, early), nil, [2]string{config, ""}},
		"a huge one":        {huge, plain(folder, early), [2]string{"", folder}},
		"grows meanwhile":   {&entry{mode: 0o644, content: config, swapped: huge}, plain(folder, early), [2]string{"", folder}},
		"becomes a folder":  {&entry{mode: 0o644, content: config, swapped: dir()}, plain(folder, early), [2]string{"", folder}},
		"goes away":         {&entry{mode: 0o644, content: config, swapped: link("/nowhere")}, plain(folder, early), [2]string{"", folder}},
		"link to a file":    {link("/elsewhere"), plain(folder, early), [2]string{"", folder}},
		"link to nothing":   {link("/nowhere"), plain(folder, early), [2]string{"", folder}},
		"link to itself":    {link(configFile), plain(folder, early), [2]string{"", folder}},
		"link to directory": {link(configDir), plain(folder, early), [2]string{"", folder}},
		"directory":         {dir(), plain(folder, early), [2]string{"", folder}},
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
			there, err := readFrom(t, s)
			got := [2]string{string(there[path.Base(configFile)]), string(there[path.Base(folderFile)])}
			if err != nil || got != tt.want {
				t.Errorf("%q %v, want %q", got, err, tt.want)
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
	if there, err := readFrom(t, s); err == nil || !strings.Contains(err.Error(), s.fail) {
		t.Errorf("%q, %v", there, err)
	}
}

// TestWriteConfig_inTheWay: what a user has where the configuration belongs is
// told from what Podman cannot do.
func TestWriteConfig_inTheWay(t *testing.T) {
	dir, plain := &entry{mode: fs.ModeDir | 0o755}, &entry{mode: 0o644, content: "x"}
	const refusal = "copier: put: error creating file: is a directory"
	for name, tt := range map[string]struct {
		files map[string]*entry
		code  string
		text  string
	}{
		"directory":      {map[string]*entry{path.Dir(configDir): dir, configDir: dir, configFile: dir}, agent.CodeUnusableFile, configFile},
		"no directory":   {map[string]*entry{path.Dir(configDir): dir, configDir: plain}, agent.CodeUnusableFile, configDir},
		"none above it":  {map[string]*entry{path.Dir(configDir): plain}, agent.CodeUnusableFile, path.Dir(configDir)},
		"Podman's fault": {map[string]*entry{path.Dir(configDir): dir, configDir: dir, configFile: plain}, agent.CodeInternal, refusal},
	} {
		t.Run(name, func(t *testing.T) {
			tt.files[agent.Home] = dir
			s := &service{files: tt.files, fail: refusal}
			err := s.call(t, func(ctx context.Context, e *Engine) error {
				return e.writeConfig(ctx, id, agent.IDEConfig{Name: "one"}, true)
			})
			if agent.ErrorCode(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v (%s), want %s", err, agent.ErrorCode(err), tt.text)
			}
		})
	}
}
