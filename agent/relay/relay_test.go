package relay_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/relay"
)

// role is which of the processes of a test this program is; the test itself has
// none.
const role = "ROCKPOOL_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "podman":
		os.Exit(ended(playPodman()))
	case "container":
		os.Exit(ended(playContainer()))
	case "starved":
		os.Exit(ended(playStarved()))
	case "relay", "entered":
		os.Exit(ended(playRelay(os.Getenv(role) == "entered")))
	}
	os.Exit(m.Run())
}

func ended(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, os.Getenv(role)+":", err)
	return 1
}

// playPodman is in a user namespace of its own, and makes a container: a process
// in further ones. It writes the number of that, as it is outside.
func playPodman() error {
	ids := []syscall.SysProcIDMap{{Size: 1}}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"=container")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: ids, GidMappings: ids, Pdeathsig: syscall.SIGKILL,
	}
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ready, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return errors.Join(err, cmd.Wait())
	}
	fmt.Println(cmd.Process.Pid, strings.TrimSpace(ready))
	return cmd.Wait()
}

// applications are what listens in a container: at the address, on the port. The
// last is the container's other address.
var applications = []struct {
	address string
	port    int
}{{"127.0.0.1", 3001}, {"::1", 3002}, {"0.0.0.0", 3003}, {"::", 3004}, {otherAddress, 3005}}

const otherAddress = "10.20.30.40"

// playContainer listens, until standard input ends.
func playContainer() error {
	if err := configureNetwork(); err != nil {
		return err
	}
	for _, a := range applications {
		family := "tcp4"
		if strings.Contains(a.address, ":") {
			family = "tcp6" // alone: Go would take both families for ::
		}
		l, err := net.Listen(family, net.JoinHostPort(a.address, strconv.Itoa(a.port)))
		if err != nil {
			return err
		}
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go func() {
					defer c.Close()
					fmt.Fprintln(c, "application at", a.address)
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// configureNetwork gives the loopback interface another address, and switches it
// on.
func configureNetwork() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for name, address := range map[string]string{"lo": "127.0.0.1", "lo:1": otherAddress} {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(net.ParseIP(address).To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r); err != nil {
			return fmt.Errorf("give %s an address: %w", name, err)
		}
	}
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// playRelay serves at file descriptor 3, as systemd hands it over.
func playRelay(entered bool) error {
	fd, err := unix.FcntlInt(3, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(uintptr(fd), "socket"))
	if err != nil {
		return err
	}
	r := &relay.Relay{
		Inside:  []string{"/usr/bin/env", role + "=entered", os.Args[0]},
		Entered: entered,
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	return r.Serve(l.(*net.UnixListener))
}

// playStarved is a relay that has no file left to open when it is asked
// something, and has one a moment later.
func playStarved() error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: os.Args[1], Net: "unix"})
	if err != nil {
		return err
	}
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		return err
	}

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	var taken []int
	for fd, err := unix.Dup(0); err == nil; fd, err = unix.Dup(0) {
		taken = append(taken, fd)
	}

	served := make(chan error, 1)
	go func() {
		r := &relay.Relay{Entered: true, Log: slog.New(slog.NewTextHandler(os.Stdout, nil))}
		served <- r.Serve(l)
	}()
	time.Sleep(100 * time.Millisecond) // it finds none
	for _, fd := range taken {
		_ = unix.Close(fd)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "no question"); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the relay does not hear: %w", err)
	}
	_ = l.Close()
	return <-served
}

// world is a container and a relay, both of the same unprivileged user.
type world struct {
	program string
	user    *syscall.Credential // nil when the test has no privilege itself
	dir     string
	socket  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	for _, p := range []string{"/usr/bin/nsenter", "/usr/bin/setpriv"} {
		if _, err := os.Stat(p); err != nil {
			t.Skip("there is no ", p, ": install util-linux")
		}
	}
	dir, err := os.MkdirTemp("", "relay") // a short path: the socket's has at most 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{program: filepath.Join(dir, "program"), dir: dir, socket: filepath.Join(dir, "relay.sock")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err == nil {
		err = errors.Join(os.WriteFile(w.program, b, 0o755), os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		const nobody = 65534
		w.user = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return w
}

func (w *world) command(t *testing.T, as string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), w.program)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.user, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// container starts one and returns a handle of its first process, and what ends
// it.
func (w *world) container(t *testing.T) (process *os.File, end func()) {
	t.Helper()
	// The owner of a user namespace is who makes it: first the user, then that.
	cmd := w.command(t, "podman")
	cmd.Path, cmd.Args = "/usr/bin/unshare", []string{"unshare", "--user", "--map-root-user", "--kill-child", w.program}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("no user namespaces can be made here: ", err)
	}
	end = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(end)

	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Skip("no user and network namespaces can be made here (see the output above)")
	}
	number, _, _ := strings.Cut(line, " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("podman says %q", line)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), end
}

// relay starts one at the socket, again and again, as systemd does.
func (w *world) relay(t *testing.T) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: w.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, w.program)
			cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), role+"=relay"), []*os.File{f}, t.Output()
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.user}
			_ = cmd.Run()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_, _ = f.Close(), l.Close()
	})
}

// containers has handles of first processes, by workspace.
type containers struct{ sync.Map }

func (c *containers) Process(_ context.Context, id string) (*os.File, error) {
	v, _ := c.Load(id)
	f, _ := v.(*os.File)
	if f == nil {
		return nil, agent.Errorf(agent.CodeConflict, "The workspace does not run. Start it first.")
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	return os.NewFile(uintptr(fd), "pidfd"), err
}

func (w *world) previews(t *testing.T, c *containers) *relay.Previews {
	p := &relay.Previews{
		Dir: filepath.Join(w.dir, "previews"), Relay: relay.Client{Socket: w.socket}, Processes: c,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Cleanup(p.Close)
	return p
}

// dial dials a preview as Caddy does.
func dial(t *testing.T, p *relay.Previews, id string, port int) *net.UnixConn {
	t.Helper()
	upstream, err := p.Preview(t.Context(), id, port)
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(upstream, "unix/")
	if !ok {
		t.Fatalf("the upstream is %q", upstream)
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// talk sends words through a preview, ends its own side and returns all that
// comes.
func talk(t *testing.T, c *net.UnixConn, words string) string {
	t.Helper()
	if _, err := io.WriteString(c, words); err != nil && !errors.Is(err, unix.EPIPE) {
		t.Fatal(err)
	}
	_ = c.CloseWrite() // fails where nothing listens
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return string(b)
}

const (
	one = "0000000000000000000000001"
	two = "0000000000000000000000002"
)

// TestPreviews: an application is reached at whatever address of its container
// it listens, and is told apart from another container's.
func TestPreviews(t *testing.T) {
	w := newWorld(t)
	first, endFirst := w.container(t)
	defer first.Close()
	second, _ := w.container(t)
	defer second.Close()
	w.relay(t)
	c := &containers{}
	c.Store(one, first)
	p := w.previews(t, c)

	for _, a := range applications {
		want := "application at " + a.address + "\nwords"
		if got := talk(t, dial(t, p, one, a.port), "words"); got != want {
			t.Errorf("port %d: %q, want %q", a.port, got, want)
		}
	}
	if got := talk(t, dial(t, p, one, 3999), "words"); got != "" {
		t.Errorf("a port at which nothing listens: %q", got)
	}

	stream := dial(t, p, one, 3002)
	lines := bufio.NewReader(stream)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p.Close() // the agent ends
	for _, word := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(stream, word); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != word {
			t.Fatalf("after the agent's end the stream says %q, %v", got, err)
		}
	}

	// The container ends, and with it what was open. Its next life is another process.
	endFirst()
	if got, err := lines.ReadString('\n'); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after the container's end the stream says %q, %v", got, err)
	}
	c.Delete(one)
	if got := talk(t, dial(t, p, one, 3002), "words"); got != "" {
		t.Errorf("a workspace that ended answers %q", got)
	}
	c.Store(one, first) // the runtime does not know yet
	if got := talk(t, dial(t, p, one, 3002), "words"); got != "" {
		t.Errorf("a workspace that ended answers %q", got)
	}
	// This one is of another Podman, as after "podman system migrate": the relay
	// starts anew for it.
	c.Store(one, second)
	if got := talk(t, dial(t, p, one, 3002), "words"); got != "application at ::1\nwords" {
		t.Errorf("the workspace's next life answers %q", got)
	}
	if got := talk(t, dial(t, p, two, 3002), "words"); got != "" {
		t.Errorf("a workspace that does not run answers %q", got)
	}
}

// TestPreviews_Listening: what listens is listed with its program and addresses.
func TestPreviews_Listening(t *testing.T) {
	w := newWorld(t)
	process, end := w.container(t)
	defer process.Close()
	w.relay(t)
	c := &containers{}
	c.Store(one, process)
	p := w.previews(t, c)

	var want []agent.Listener
	for _, a := range applications {
		want = append(want, agent.Listener{Port: a.port, Program: "exe", Addresses: []string{a.address}})
	}
	got, err := p.Listening(t.Context(), one)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := p.Listening(t.Context(), two); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("of a workspace that does not run: %v", err)
	}
	end()
	if got, err := p.Listening(t.Context(), one); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("of a workspace that has just ended: %+v, %v", got, err)
	}
}

// TestPreviews_VM: the relay enters nothing of the VM, whatever process it is
// told.
func TestPreviews_VM(t *testing.T) {
	w := newWorld(t)
	process, _ := w.container(t)
	defer process.Close()
	w.relay(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_, _ = io.WriteString(c, "the VM's own")
			_ = c.Close()
		}
	}()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	own := os.NewFile(uintptr(fd), "pidfd")
	defer own.Close()
	c := &containers{}
	c.Store(one, process)
	c.Store(two, own)
	p := w.previews(t, c)
	port := l.Addr().(*net.TCPAddr).Port
	for range 2 { // outside the user namespace, then inside
		if got := talk(t, dial(t, p, two, port), ""); got != "" {
			t.Errorf("the relay led to the VM: %q", got)
		}
		if got, err := p.Listening(t.Context(), two); err == nil {
			t.Errorf("the relay listed what listens in the VM: %+v", got)
		}
		if got := talk(t, dial(t, p, one, 3001), ""); got != "application at 127.0.0.1\n" {
			t.Errorf("then the workspace answers %q", got)
		}
	}
}

// TestPreviews_sockets: as many sockets are open as ports can be registered, each
// for one workspace and port, and none is left of an agent that was killed.
func TestPreviews_sockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{dir: dir, socket: filepath.Join(dir, "relay.sock")}
	killed := w.previews(t, &containers{})
	if _, err := killed.Preview(t.Context(), two, 3000); err != nil {
		t.Fatal(err)
	}

	p := w.previews(t, &containers{})
	want := map[string]bool{}
	for port := 3000; port <= 3000+agent.MaxPorts; port++ {
		for range 2 { // the second request finds it open
			upstream, err := p.Preview(t.Context(), one, port)
			if name := fmt.Sprintf("%s-%d.sock", one, port); err != nil || upstream != "unix/"+filepath.Join(p.Dir, name) {
				t.Fatalf("%q, %v", upstream, err)
			} else if port > 3000 {
				want[name] = true
			}
		}
	}
	files, err := os.ReadDir(p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !want[f.Name()] {
			t.Errorf("%s is left", f.Name())
		}
		delete(want, f.Name())
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if info, err := os.Stat(p.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may enter: %v, %v", info.Mode(), err)
	}
	_ = talk(t, dial(t, p, one, 3000), "") // it opens again

	for id, port := range map[string]int{"../" + one[3:]: 3000, "": 3000, one: 0, two: 70000} {
		if upstream, err := p.Preview(t.Context(), id, port); err == nil {
			t.Errorf("%q, %d: %q", id, port, upstream)
		}
	}
}

// TestRelay_Serve/starved: a relay that has no more files to open goes on once it
// has.
func TestRelay_Serve_starved(t *testing.T) {
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", filepath.Join(dir, "s"))
	cmd.Env = append(os.Environ(), role+"=starved")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "too many open files") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestPreviews_full: a workspace has only so many connections, and one that ends makes room.
func TestPreviews_full(t *testing.T) {
	w := newWorld(t)
	first, _ := w.container(t)
	defer first.Close()
	w.relay(t)
	c := &containers{}
	c.Store(one, first)
	p := w.previews(t, c)

	answers := func() (*net.UnixConn, bool) {
		stream := dial(t, p, one, 3001)
		line, err := bufio.NewReader(stream).ReadString('\n')
		return stream, err == nil && line == "application at 127.0.0.1\n"
	}
	var open []*net.UnixConn
	for len(open) < 300 {
		stream, ok := answers()
		if !ok {
			break
		}
		open = append(open, stream)
	}
	if len(open) != 256 {
		t.Fatalf("%d connections are open", len(open))
	}

	_ = open[0].Close()
	for begin := time.Now(); ; {
		if _, ok := answers(); ok {
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("an end makes no room")
		}
	}
}

// TestPreviews_Forget: of a workspace that was forgotten no socket and no handle
// is left, another's stay, and it can begin anew.
func TestPreviews_Forget(t *testing.T) {
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{dir: dir, socket: filepath.Join(dir, "relay.sock")}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	process := os.NewFile(uintptr(fd), "pidfd")
	defer process.Close()
	c := &containers{}
	c.Store(one, process)
	p := w.previews(t, c)
	_ = talk(t, dial(t, p, two, 3000), "")
	before := pidfds(t)
	for port := range 3 {
		_ = talk(t, dial(t, p, one, 3000+port), "") // there is no relay
	}
	if pidfds(t) == before {
		t.Fatal("no handle is kept, so this test shows nothing")
	}

	p.Forget(one)
	p.Forget(one)
	files, err := os.ReadDir(p.Dir)
	if err != nil || len(files) != 1 || files[0].Name() != two+"-3000.sock" {
		t.Errorf("there are %v, %v", files, err)
	}
	for begin := time.Now(); pidfds(t) > before; { // what was handed over has copies, for a moment
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d handles are left, there were %d", pidfds(t), before)
		}
	}
	_ = talk(t, dial(t, p, one, 3000), "")
	p.Forget(one)
}

// pidfds counts handles of processes that this test has open.
func pidfds(t *testing.T) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if target, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.Contains(target, "pidfd") {
			n++
		}
	}
	return n
}
