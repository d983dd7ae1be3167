package http

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// maxGrace bounds how long a client may let a container take to stop.
const maxGrace = 5 * time.Minute

// workspacePattern is what a workspace's name looks like.
var workspacePattern = regexp.MustCompile(`^[a-z0-9-]{3,63}$`)

// runtimeRoutes are the operations on containers: [agent.Runtime] over HTTP,
// method by method. A method without a result answers 204.
func (s *Server) runtimeRoutes() []route {
	return []route{
		{api.CreateContainer, s.createContainer},
		{api.StartContainer, s.startContainer},
		{api.StopContainer, s.stopContainer},
		{api.RemoveContainer, s.removeContainer},
		{api.GetContainerStatus, s.containerStatus},
		{api.GetAddress, s.containerAddress},
		{api.ConfigureIDE, s.configureIDE},
		{api.CloneRepository, s.cloneRepository},
		{api.ReadFile, s.readFile},
		{api.WriteFile, s.writeFile},
	}
}

func (s *Server) createContainer(w http.ResponseWriter, r *http.Request) error {
	id, f, err := runtimeBody(r)
	if err != nil {
		return err
	}
	body := decode[api.NewContainer](f)
	c := agent.Container{ID: id, Name: body.Name, Image: cmp.Or(body.Image, agent.DefaultImage), Port: body.Port, Slot: body.Slot, Memory: body.MemoryBytes, Quota: body.DiskBytes}
	check(f, "name", workspacePattern.MatchString(c.Name), "must be 3 to 63 characters of a-z, 0-9 and dashes")
	check(f, "port", c.Port >= 1024 && c.Port <= 65535, "must be a number from 1024 to 65535")
	check(f, "slot", agent.ValidSlot(c.Slot), fmt.Sprintf("must be a number from 0 to %d", agent.ContainerSlots-1))
	check(f, "memoryBytes", c.Memory == 0 || c.Memory >= agent.MinMemory, fmt.Sprintf("must be 0 or at least %d", int64(agent.MinMemory)))
	check(f, "diskBytes", c.Quota >= 0, "must not be negative")
	if err := f.err(); err != nil {
		return err
	}
	return done(w, s.Runtime.Create(r.Context(), c))
}

// check adds a fault unless there is one about the same member.
func check(f *fields, name string, ok bool, message string) {
	if ok {
		return
	}
	for _, have := range f.faults {
		if have.Path == name {
			return
		}
	}
	f.fault(name, message)
}

// runtimeBody reads the id in the path and the body.
func runtimeBody(r *http.Request) (string, *fields, error) {
	id, err := workspaceID(r)
	if err != nil {
		return "", nil, err
	}
	f, err := readBody(r)
	return id, f, err
}

// done answers 204, unless err says why not.
func done(w http.ResponseWriter, err error) error {
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) startContainer(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	return done(w, s.Runtime.Start(r.Context(), id))
}

func (s *Server) stopContainer(w http.ResponseWriter, r *http.Request) error {
	id, f, err := runtimeBody(r)
	if err != nil {
		return err
	}
	seconds := decode[api.Stop](f).GraceSeconds
	grace := time.Duration(seconds * float64(time.Second))
	check(f, "graceSeconds", seconds >= 0 && seconds <= maxGrace.Seconds(), "must be a number from 0 to 300")
	if err := f.err(); err != nil {
		return err
	}
	return done(w, s.Runtime.Stop(r.Context(), id, grace))
}

func (s *Server) removeContainer(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	return done(w, s.Runtime.Remove(r.Context(), id))
}

func (s *Server) containerStatus(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	status, err := s.Runtime.Status(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.ContainerStatus{Status: status})
}

func (s *Server) containerAddress(w http.ResponseWriter, r *http.Request) error {
	id, err := workspaceID(r)
	if err != nil {
		return err
	}
	address, err := s.Runtime.Address(r.Context(), id)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.Address{Address: address})
}

func (s *Server) configureIDE(w http.ResponseWriter, r *http.Request) error {
	id, f, err := runtimeBody(r)
	if err != nil {
		return err
	}
	c := agent.IDEConfig(decode[api.IDEConfig](f))
	check(f, "name", workspacePattern.MatchString(c.Name), "must be 3 to 63 characters of a-z, 0-9 and dashes")
	check(f, "folder", c.Folder == "" || absolute(c.Folder), "must be an absolute path")
	if err := f.err(); err != nil {
		return err
	}
	return done(w, s.Runtime.Configure(r.Context(), id, c))
}

// absolute reports whether p is an absolute path that a program can be given.
func absolute(p string) bool { return strings.HasPrefix(p, "/") && plain(p) }

// plain reports whether s has no control characters.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

func (s *Server) cloneRepository(w http.ResponseWriter, r *http.Request) error {
	id, f, err := runtimeBody(r)
	if err != nil {
		return err
	}
	c := agent.Clone(decode[api.Clone](f))
	// The rules for a workspace's repository and token hold here as well.
	asked := agent.NewWorkspace{Name: "name", RepositoryID: c.URL, Token: c.Token}
	check(f, "url", strings.HasPrefix(c.URL, "https://") && agent.ErrorCode(asked.Validate()) == "", "must be an https address without credentials, and the token printable")
	check(f, "folder", absolute(c.Folder), "must be an absolute path")
	if err := f.err(); err != nil {
		return err
	}
	return done(w, s.Runtime.Clone(r.Context(), id, c))
}

// filePath returns the id and the path of a file.
func filePath(r *http.Request) (id, path string, err error) {
	if id, err = workspaceID(r); err != nil {
		return "", "", err
	}
	path = r.URL.Query().Get(api.QueryPath)
	if path == "" || !plain(path) {
		return "", "", invalid(api.QueryPath, "must be the path of a file, absolute or relative to the home directory")
	}
	return id, path, nil
}

func (s *Server) readFile(w http.ResponseWriter, r *http.Request) error {
	id, path, err := filePath(r)
	if err != nil {
		return err
	}
	content, err := s.Runtime.ReadFile(r.Context(), id, path)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", api.TypeBytes)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(content)
	return nil
}

func (s *Server) writeFile(w http.ResponseWriter, r *http.Request) error {
	id, path, err := filePath(r)
	if err != nil {
		return err
	}
	if kind := r.Header.Get("Content-Type"); kind != api.TypeBytes {
		return agent.Errorf(agent.CodeUnsupportedMedia, "The body must be the file's bytes: send Content-Type: "+api.TypeBytes)
	}
	content, err := readAll(r)
	if err != nil {
		return err
	}
	return done(w, s.Runtime.WriteFile(r.Context(), id, path, content))
}
