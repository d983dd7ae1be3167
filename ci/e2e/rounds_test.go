//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/ci/e2e/model"
	"github.com/rockpool/rootvm/vm"
)

// A round: clients ask for things, a fault strikes at a moment that the seed
// chooses, what it took is given back, and when all has settled everything is
// compared with what was acknowledged. What the clients ask for and when the
// fault strikes follows from the seed; what exactly it hits, from the machine's
// pace, too.

// TestRounds_Host kills what runs on the host: the machine, which is a power cut,
// its supervisor, and virtiofsd.
func TestRounds_Host(t *testing.T) {
	takesLong(t)
	runRounds(t, 30, killQEMU, killSupervisor, killVirtiofsd)
}

// TestRounds_Guest kills what runs in the guest: the agent, Podman's service, and
// monitors of containers.
func TestRounds_Guest(t *testing.T) {
	takesLong(t)
	runRounds(t, 40, killAgent, killPodman, killMonitor)
}

// TestRounds_Mixed kills any of them.
func TestRounds_Mixed(t *testing.T) {
	takesLong(t)
	runRounds(t, 30, killQEMU, killSupervisor, killVirtiofsd, killAgent, killPodman, killMonitor)
}

// TestRounds_World takes the network away, sets the clock, and uses up memory.
func TestRounds_World(t *testing.T) {
	takesLong(t)
	runRounds(t, 15, loseNetwork, clockBack, clockAhead, fillWorkspace, fillMachine)
}

// fault is something that goes wrong.
type fault struct {
	name string
	// strike does it, and says to what. It is in the middle of a round: what it
	// cannot do is said, too.
	strike func(ctx context.Context, r *round) string
	mend   func(ctx context.Context, r *round) error // nil: the product gets over it by itself
	ends   bool                                      // it may end a workspace's processes
}

// strikeLimit is the latest moment of a fault, after the begin of its round, and
// aftermath how long clients go on at most.
const (
	strikeLimit = 25 * time.Second
	aftermath   = 10 * time.Second
)

// The environment variables that repeat rounds.
const (
	seedVariable   = "ROCKPOOL_SEED"
	roundsVariable = "ROCKPOOL_ROUNDS" // how many, instead of a test's own number
)

// round is one of a test's rounds.
type round struct {
	t      *testing.T
	i      *instance
	number int
	random *rand.Rand
	users  []*user
	ends   []time.Time // of faults that may end a workspace's processes
}

// user is a client at work.
type user struct {
	*model.Client
	i      *instance
	random *rand.Rand    // of its pauses
	pause  time.Duration // the longest of them
	never  []model.Kind  // what it does not ask for

	mu     sync.Mutex
	asking string // what it asks for at the moment
	faults []string
}

// seed is the one that was given, or a new one. The test says it, and how to
// come to it again.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64() >> 32
	if given := os.Getenv(seedVariable); given != "" {
		n, err := strconv.ParseUint(given, 10, 64)
		if err != nil {
			t.Fatalf("%s=%q is not a number", seedVariable, given)
		}
		s = n
	}
	t.Logf("seed %d; again: %s=%d E2E_FLAGS='-run=^%s$' go tool mage e2e", s, seedVariable, s, t.Name())
	return s
}

// roundsWanted is the number of rounds that was given, or a test's own.
func roundsWanted(t *testing.T, own int) int {
	t.Helper()
	given := os.Getenv(roundsVariable)
	if given == "" {
		return own
	}
	n, err := strconv.Atoi(given)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q is not a number of rounds", roundsVariable, given)
	}
	return n
}

// runRounds runs a number of rounds with faults, and expects that nothing is
// left of them.
func runRounds(t *testing.T, number int, faults ...fault) {
	s := seed(t)
	number = roundsWanted(t, number)
	i := primary.up(t)
	i.login(t)
	r := &round{t: t, i: i}
	for n, name := range agent.PreferenceNames() {
		r.users = append(r.users, &user{Client: model.NewClient(fmt.Sprintf("rounds-%c", 'a'+n), name), i: i, pause: time.Second})
	}

	for n := range number {
		r.number = n
		r.play(s, faults)
		if t.Failed() {
			t.Fatalf("round %d of seed %d failed; what is there is left as it is", n, s)
		}
	}
	r.clean()
}

// play plays a round.
func (r *round) play(seed uint64, faults []fault) {
	t, start := r.t, time.Now()
	r.random = rand.New(rand.NewPCG(seed, uint64(r.number)))
	struck := []fault{faults[r.random.IntN(len(faults))]}
	if r.random.IntN(4) == 0 {
		struck = append(struck, faults[r.random.IntN(len(faults))])
	}

	ctx, finish := context.WithCancel(t.Context())
	defer finish()
	var wg sync.WaitGroup
	for n, u := range r.users {
		u.Begin(seed, r.number)
		u.random = rand.New(rand.NewPCG(seed+uint64(n)+1, uint64(r.number)))
		wg.Go(func() { u.work(ctx) })
	}

	for _, f := range struck {
		pause(ctx, time.Duration(r.random.Int64N(int64(strikeLimit))))
		asked := r.asked()
		what := f.strike(ctx, r)
		if f.ends {
			r.ends = append(r.ends, time.Now())
		}
		t.Logf("round %d, %.1f s: %s: %s; at that moment %s", r.number, time.Since(start).Seconds(), f.name, what, asked)
	}
	pause(ctx, time.Duration(r.random.Int64N(int64(aftermath))))
	finish()
	wg.Wait()
	for _, u := range r.users {
		t.Logf("round %d: to %s was acknowledged: %s", r.number, u.Name, strings.Join(u.Acknowledged(), "; "))
		for _, wrong := range u.faults {
			t.Error(wrong)
		}
		u.faults = nil
	}

	for _, f := range struck {
		if f.mend == nil {
			continue
		}
		if err := f.mend(t.Context(), r); err != nil {
			t.Fatalf("round %d: give back what %s took: %v", r.number, f.name, err)
		}
	}
	struckAt := time.Since(start)
	r.recover()
	r.compare()
	t.Logf("round %d: settled and compared after %.1f s, %.1f s in all", r.number, (time.Since(start) - struckAt).Seconds(), time.Since(start).Seconds())
}

// pause waits, and no longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// asked says what every user asks for at the moment.
func (r *round) asked() string {
	words := make([]string, len(r.users))
	for n, u := range r.users {
		u.mu.Lock()
		words[n] = u.Name + " asks for " + u.asking
		u.mu.Unlock()
	}
	return strings.Join(words, ", ")
}

// work has a user ask for things until ctx ends, or an answer is missing.
func (u *user) work(ctx context.Context) {
	defer u.asks("nothing")
	for ctx.Err() == nil && !u.Lost() {
		w, known := u.look(ctx)
		if !known {
			pause(ctx, u.pause)
			continue
		}
		o := u.Next(agent.Status(w.Status))
		u.asks(o.String())
		if o.Kind == model.Look || slices.Contains(u.never, o.Kind) {
			pause(ctx, time.Duration(u.random.Int64N(int64(u.pause))))
			continue
		}
		u.ask(o, w)
	}
}

func (u *user) asks(what string) {
	u.mu.Lock()
	u.asking = what
	u.mu.Unlock()
}

// look asks for the user's workspace. Without an answer nothing is known.
func (u *user) look(ctx context.Context) (w remote, known bool) {
	all, err := u.i.workspaces(ctx)
	if err != nil {
		return remote{}, false
	}
	if n := slices.IndexFunc(all, func(w remote) bool { return w.Name == u.Name }); n >= 0 {
		w = all[n]
	}
	return w, true
}

// ask asks for an operation, and notes what was answered. It is not interrupted
// when the round is over: what was asked for is waited for, so that nothing is
// under way when things are compared.
func (u *user) ask(o model.Operation, w remote) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var status int
	var body string
	var err error
	path := "/api/workspaces/" + w.ID
	switch o.Kind {
	case model.Create:
		status, body, err = u.i.send(ctx, http.MethodPost, "/api/workspaces", map[string]any{"name": u.Name, "image": "", "autoSyncPrefs": o.Sync})
	case model.Start:
		status, body, err = u.i.send(ctx, http.MethodPost, path+"/start", nil)
	case model.Stop:
		status, body, err = u.i.send(ctx, http.MethodPost, path+"/stop", nil)
	case model.Delete:
		status, body, err = u.i.send(ctx, http.MethodDelete, path, nil)
	case model.AddPort:
		status, body, err = u.i.send(ctx, http.MethodPost, path+"/ports", map[string]any{"port": o.Port})
	case model.RemovePort:
		status, body, err = u.i.send(ctx, http.MethodDelete, fmt.Sprintf("%s/ports/%d", path, o.Port), nil)
	case model.Save:
		status, body, err = u.i.send(ctx, http.MethodPut, "/api/settings/"+u.Preference+"?workspaceId="+w.ID, nil)
	case model.Write, model.Edit:
		u.write(ctx, o, w)
		return
	}

	switch {
	case err != nil || status >= 500:
		u.Unanswered(o)
	case status >= 400 && status != http.StatusConflict && status != http.StatusNotFound:
		u.faults = append(u.faults, fmt.Sprintf("%s: %s was refused: %d %s", u.Name, o, status, body))
	case status >= 400: // refused, for it went on its way meanwhile
	default:
		u.acknowledge(o, body)
	}
}

// acknowledge notes an answer.
func (u *user) acknowledge(o model.Operation, body string) {
	var answer struct{ ID, Blob string }
	if strings.HasPrefix(body, "{") {
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			u.faults = append(u.faults, fmt.Sprintf("%s: %s was answered %q", u.Name, o, body))
		}
	}
	if o.Kind == model.Save {
		if err := u.Saved(answer.Blob); err != nil {
			u.faults = append(u.faults, err.Error())
		}
	}
	if err := u.Done(o, answer.ID); err != nil {
		u.faults = append(u.faults, err.Error())
	}
}

// writer is what runs in the workspace: it replaces files, and says so once each
// is on the disk under its name.
const writer = `cd /home/admin; while read -r name content; do
	mkdir -p "$(dirname "$name")" && printf '%s\n' "$content" >"$name.new" && sync "$name.new" &&
	mv "$name.new" "$name" && sync "$(dirname "$name")" && echo "on the disk: $name $content"
done`

// write writes files in the workspace, each once the one before is acknowledged.
func (u *user) write(ctx context.Context, o model.Operation, w remote) {
	cmd := exec.CommandContext(ctx, mageBin, "vm:ssh", "--", "bash", "-c",
		"cd /; exec sudo -u rockpool podman exec -i rockpool-"+w.ID+" bash -c '"+strings.ReplaceAll(writer, "'", `'\''`)+"'")
	cmd.Dir, cmd.Env, cmd.WaitDelay = checkout, u.i.environment(), 5*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		u.faults = append(u.faults, err.Error())
		return
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		u.faults = append(u.faults, err.Error())
		return
	}

	lines := bufio.NewScanner(out)
	for len(o.Files) > 0 {
		f := o.Files[0]
		u.asks(o.String())
		if _, err := fmt.Fprintln(in, f.Name, f.Content); err != nil {
			break
		}
		if !lines.Scan() || lines.Text() != "on the disk: "+f.Name+" "+f.Content {
			break
		}
		o = u.Written(o)
	}
	if len(o.Files) > 0 {
		u.Unanswered(o)
	}
	_ = in.Close()
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // why an answer is missing is not the user's concern
}

// asker keeps no connection: what a fault has cut would be tried again on
// another one, unseen.
var asker = &http.Transport{DisableKeepAlives: true}

// send asks the dashboard's API from any goroutine. The error is that no answer
// came.
func (i *instance) send(ctx context.Context, method, path string, body any) (status int, answer string, err error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, "", err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", i.web, path), in)
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth("admin", i.secret)
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: cmp.Or(i.way, asker)}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// read asks for JSON.
func (i *instance) read(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	status, body, err := i.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: %d %s", path, status, body)
	}
	return json.Unmarshal([]byte(body), v)
}

func (i *instance) workspaces(ctx context.Context) ([]remote, error) {
	var list struct{ Items []remote }
	err := i.read(ctx, "/api/workspaces?limit=100", &list)
	return list.Items, err
}

// recover waits until the instance serves, and starts it when it is off.
func (r *round) recover() {
	t, i := r.t, r.i
	t.Helper()
	eventually(t, readyLimit, "the end of a machine that was killed is known", func() bool {
		state := i.status(t) // adopts a machine that lost its supervisor
		return state.Supervisor.Alive() == state.On()
	})
	if !i.status(t).On() {
		i.mage(t, "up")
	}
	var state vm.State
	eventually(t, readyLimit, "an instance that is ready and whole", func() bool {
		state = i.status(t)
		return state.Status == vm.Ready && len(state.Troubles) == 0 && healthy(i.web)
	})

	said := fmt.Sprintf("round %d\n", r.number)
	if err := os.WriteFile(filepath.Join(i.project, "round.txt"), []byte(said), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, readyLimit, "the share's new file in the guest", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), strikeTime)
		defer cancel()
		out, err := i.trySh(ctx, "cat /mnt/rockpool/round.txt")
		return err == nil && out == said
	})
}

// compare waits until everything has settled, and compares it with what was
// acknowledged.
func (r *round) compare() {
	t := r.t
	t.Helper()
	var seen observed
	settle := func() bool {
		var err error
		seen, err = r.observe(t.Context())
		if err != nil {
			t.Logf("cannot look: %v", err)
			return false
		}
		return seen.settled() && !r.startAgain(seen)
	}
	eventually(t, readyLimit, "nothing on its way", settle)

	for _, u := range r.users {
		for _, wrong := range u.Compare(seen.of(u.Client)) {
			t.Error(wrong)
		}
	}

	// What ends a container ends a moment after the container.
	var left []string
	for begin := time.Now(); ; pause(t.Context(), time.Second) {
		left = append(seen.leftovers(r), hostLeftovers(t, r.i)...)
		if len(left) == 0 || time.Since(begin) > leftoverLimit {
			break
		}
		eventually(t, readyLimit, "nothing on its way", settle)
	}
	for _, wrong := range left {
		t.Error(wrong)
	}
}

// leftoverLimit is how long what belongs to nobody may be there still.
const leftoverLimit = time.Minute

// startAgain starts what the product rightly gave up: a workspace that has ended
// by itself four times in ten minutes, which is as often as this test made one
// end. It reports whether there was one.
func (r *round) startAgain(seen observed) bool {
	recent := slices.DeleteFunc(slices.Clone(r.ends), func(at time.Time) bool { return time.Since(at) > 10*time.Minute })
	if len(recent) < 4 {
		return false
	}
	again := false
	for _, w := range seen.workspaces {
		if w.Status == string(agent.StatusError) && strings.Contains(w.ErrorMessage, "ended by themselves 4 times") {
			r.t.Logf("%s was given up after %d faults that end workspaces: starting it", w.Name, len(recent))
			r.i.api(r.t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
			again = true
		}
	}
	return again
}

// observed is everything that there is.
type observed struct {
	workspaces []remote
	ports      map[string][]int  // by workspace's id
	stored     map[string]string // by preference's name
	guest      guestSide
}

// guestSide is what the script of guest.js finds.
type guestSide struct {
	Integrity  []string            // of the database: "ok"
	Foreign    int                 // rows whose workspace is gone
	Jobs       []string            // kind and state of each that is there
	Rows       map[string]string   // status by id
	Containers map[string]string   // state by name
	Kept       []string            // ids of workspaces that have files
	Homes      map[string]homeSide // by workspace's id
	Monitors   int                 // conmon of containers
	Networks   int                 // pasta, or slirp4netns
	Mounts     []string            // ids of workspaces that do not run, and whose files are shown
	Strays     []string            // processes of the workspaces' ids in no container
	Temporary  []string            // files that backups and the like leave
}

type homeSide struct {
	Files       map[string]string
	Preferences map[string]string // by path
}

func (s observed) settled() bool {
	for _, w := range s.workspaces {
		if w.Status == string(agent.StatusCreating) || w.Status == string(agent.StatusStopping) {
			return false
		}
		if s.guest.Rows[w.ID] != w.Status {
			return false // it has just changed
		}
	}
	return len(s.guest.Jobs) == 0 && len(s.guest.Rows) == len(s.workspaces)
}

// of is what there is of a client's.
func (s observed) of(c *model.Client) model.Found {
	f := model.Found{StoredValue: strings.TrimSuffix(s.stored[c.Preference], "\n")}
	n := slices.IndexFunc(s.workspaces, func(w remote) bool { return w.Name == c.Name })
	if n < 0 {
		return f
	}
	w := s.workspaces[n]
	home := s.guest.Homes[w.ID]
	f.Exists, f.ID, f.Status, f.Message, f.Ports = true, w.ID, agent.Status(w.Status), w.ErrorMessage, s.ports[w.ID]
	f.Files, f.Preference = home.Files, home.Preferences[agent.PreferencePath(c.Preference)]
	return f
}

// leftovers says what is there of nobody's, and what is missing of somebody's
// beside what clients see.
func (s observed) leftovers(r *round) (faults []string) {
	say := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if !slices.Equal(s.guest.Integrity, []string{"ok"}) || s.guest.Foreign != 0 {
		say("the database: %q, %d rows of nobody's", s.guest.Integrity, s.guest.Foreign)
	}

	running := 0
	containers, kept := map[string]bool{}, map[string]bool{}
	for _, w := range s.workspaces {
		if !slices.ContainsFunc(r.users, func(u *user) bool { return u.Name == w.Name }) {
			say("workspace %s is nobody's", w.Name)
		}
		name := "rockpool-" + w.ID
		containers[name], kept[w.ID] = true, true
		runs := s.guest.Containers[name] == "running"
		if runs != (w.Status == string(agent.StatusRunning)) {
			say("workspace %s is %s, its container %q", w.Name, w.Status, s.guest.Containers[name])
		}
		if runs {
			running++
		}
	}

	for name, state := range s.guest.Containers {
		if !containers[name] {
			say("container %s, which is %s, is nobody's", name, state)
		}
	}
	for _, id := range s.guest.Kept {
		if !kept[id] {
			say("the files of %s are nobody's", id)
		}
	}
	if s.guest.Monitors > running || s.guest.Networks != running {
		say("%d containers run, with %d monitors and %d networks", running, s.guest.Monitors, s.guest.Networks)
	}
	if len(s.guest.Mounts) > 0 {
		say("the files of workspaces that do not run are shown: %q", s.guest.Mounts)
	}
	if len(s.guest.Strays) > 0 {
		say("processes in no container: %q", s.guest.Strays)
	}
	if len(s.guest.Temporary) > 0 {
		say("files left behind: %q", s.guest.Temporary)
	}
	return faults
}

// look asks the API for everything.
func (r *round) look(ctx context.Context) (observed, error) {
	s := observed{ports: map[string][]int{}, stored: map[string]string{}}
	var err error
	if s.workspaces, err = r.i.workspaces(ctx); err != nil {
		return s, err
	}
	for _, w := range s.workspaces {
		var ports []struct{ Port int }
		if err := r.i.read(ctx, "/api/workspaces/"+w.ID+"/ports", &ports); err != nil {
			return s, err
		}
		for _, p := range ports {
			s.ports[w.ID] = append(s.ports[w.ID], p.Port)
		}
	}
	var settings []struct{ Name, Blob string }
	if err := r.i.read(ctx, "/api/settings", &settings); err != nil {
		return s, err
	}
	for _, b := range settings {
		s.stored[b.Name] = b.Blob
	}
	return s, nil
}

// observe looks at everything, in the guest as well.
func (r *round) observe(ctx context.Context) (observed, error) {
	s, err := r.look(ctx)
	if err != nil {
		return s, err
	}
	argv := append([]string{"vm:ssh", "--", "sudo", "node", "-", model.Folder}, preferencePaths()...)
	cmd := exec.CommandContext(ctx, mageBin, argv...)
	script, err := os.Open("testdata/guest.js")
	if err != nil {
		return s, err
	}
	defer script.Close()
	cmd.Dir, cmd.Env, cmd.Stdin = checkout, r.i.environment(), script
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("look into the guest: %w: %s", err, complaints.String())
	}
	return s, json.Unmarshal(out, &s.guest)
}

func preferencePaths() (paths []string) {
	for _, name := range agent.PreferenceNames() {
		paths = append(paths, agent.PreferencePath(name))
	}
	return paths
}

// hostLeftovers are processes that run for the instance beside those that its
// state names and their children.
func hostLeftovers(t *testing.T, i *instance) (faults []string) {
	t.Helper()
	state := i.status(t)
	known := map[int]bool{state.Supervisor.PID: true, os.Getpid(): true}
	for _, p := range state.Processes {
		known[p.PID] = true
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte(i.dir())) {
			continue
		}
		pid, parent := process(dir)
		if !known[pid] && !known[parent] {
			faults = append(faults, fmt.Sprintf("process %d is nobody's: %q", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return faults
}

// process is the id of a process, and that of its parent, by proc(5).
func process(dir string) (pid, parent int) {
	b, _ := os.ReadFile(filepath.Join(dir, "stat")) // without it, it has ended
	_, rest, _ := strings.Cut(string(b), ") ")
	pid, _ = strconv.Atoi(filepath.Base(dir))
	if f := strings.Fields(rest); len(f) > 1 {
		parent, _ = strconv.Atoi(f[1])
	}
	return pid, parent
}

// clean deletes what the users have, and expects that nothing is left.
func (r *round) clean() {
	t, i := r.t, r.i
	all, err := i.workspaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		if w.Status == string(agent.StatusRunning) {
			i.stop(t, w)
		}
		i.remove(t, w)
	}
	for _, name := range agent.PreferenceNames() {
		i.ask(t, http.MethodDelete, "/api/settings/"+name, nil)
	}
	nothingLeft(t, i)
}
