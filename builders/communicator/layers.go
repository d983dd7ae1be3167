package communicator

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/store"
	"github.com/rockpool/rootvm/builders/userns"
)

//go:embed scripts/remove.sh
var removeScript string

const (
	layersFormat   = "rockpool layers 3" // changes when a stored layer would be wrong
	maxLayerOutput = 8 << 20             // bytes; a command that says more is not cached
	layerMeta      = "layer.json"
	layerChanges   = "changes.tar"
)

// Layers is a [Communicator] with a memory. The root file system's base, every
// upload and every command so far are the inputs of what a command makes, its
// layer, in a store of results. A command whose layer is there is not run: the
// changes it made are laid into the root file system and its output is said
// again. What follows the first difference runs for real. Uploads always happen;
// they are cheap.
//
// A command that failed is not remembered, and neither is anything after it.
// The names Packer's shell provisioner makes up for its scripts
// (/tmp/script_NNNN.sh) are replaced by a fixed one, so that they do not tell
// two builds apart. Time, network and the like are not part of the chain: a
// command that depends on them is to be given what it needs by an upload.
//
// Its methods may be called at the same time and are done one after another.
type Layers struct {
	inner *Communicator
	store store.Store

	mu     sync.Mutex
	made   store.Recipe   // what happened so far; its step is not set
	names  map[string]int // how many inputs of the recipe have a name
	hits   int
	misses int
	off    bool    // a command failed: nothing is remembered any more
	tree   listing // of the root file system as it is; nil when unknown
}

var _ packersdk.Communicator = (*Layers)(nil)

// NewLayers keeps layers in st, which builds may share. base is the digest of what
// the root file system holds now, all of it: of the archive that it was extracted
// from, not of what that was made from.
func NewLayers(root *userns.Root, st store.Store, base string) *Layers {
	l := &Layers{inner: New(root), store: st, names: map[string]int{}}
	l.note("root file system", base)
	l.note("environment of commands", append([]string{layersFormat}, root.Surroundings()...)...)
	return l
}

// note adds what happened to the inputs of all layers from here on.
func (l *Layers) note(name string, parts ...string) {
	l.names[name]++
	if n := l.names[name]; n > 1 {
		name = fmt.Sprintf("%s (%d)", name, n)
	}
	l.made.Value(name, fmt.Sprintf("%q", parts))
}

// recipe is what a command makes after all that happened so far, it included.
func (l *Layers) recipe(command string) store.Recipe {
	return store.Recipe{Step: stepOf(command), Inputs: slices.Clone(l.made.Inputs)}
}

var noStep = regexp.MustCompile(`[^a-zA-Z0-9._]+`)

// stepOf names a command for people who ask the store why it ran, such as
// "layer-bash-50-rockpool.sh" for "bash /tmp/50-rockpool.sh /tmp/templates": by its
// first words, of paths the last part.
func stepOf(command string) string {
	words := strings.Fields(command)
	name := "layer"
	for _, word := range words[:min(len(words), 2)] {
		name += "-" + strings.Trim(noStep.ReplaceAllString(path.Base(word), "-"), "-.")
	}
	return name[:min(len(name), 60)]
}

// Hits tells how many commands were answered from the store and how many ran.
func (l *Layers) Hits() (hits, misses int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hits, l.misses
}

// scriptName matches the names Packer's shell provisioner makes up.
var scriptName = regexp.MustCompile(`/tmp/script_[0-9]+\.sh`)

func canonical(s string) string { return scriptName.ReplaceAllLiteralString(s, "/tmp/script.sh") }

// Upload implements packersdk.Communicator.
func (l *Layers) Upload(dst string, src io.Reader, fi *os.FileInfo) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	dst = canonical(dst)
	mode, name := "", ""
	if fi != nil {
		mode, name = strconv.FormatUint(uint64(builders.GitMode((*fi).Mode()).Perm()), 8), canonical("/tmp/"+(*fi).Name())
	}
	l.tree = nil
	h := sha256.New()
	if err := l.inner.Upload(dst, io.TeeReader(src, h), fi); err != nil {
		l.off = true
		return err
	}
	l.note("upload "+dst, dst, mode, name, hex.EncodeToString(h.Sum(nil)))
	return nil
}

// UploadDir implements packersdk.Communicator.
func (l *Layers) UploadDir(dst, src string, exclude []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree = nil
	h := sha256.New()
	if err := archiveDir(h, src, exclude); err != nil {
		return fmt.Errorf("upload directory %s: %w", dst, err)
	}
	if err := l.inner.UploadDir(dst, src, exclude); err != nil {
		l.off = true
		return err
	}
	base := ""
	if !strings.HasSuffix(src, "/") {
		base = filepath.Base(src)
	}
	l.note("upload directory "+path.Join(dst, base), dst, base, hex.EncodeToString(h.Sum(nil)))
	return nil
}

// Download implements packersdk.Communicator.
func (l *Layers) Download(src string, dst io.Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner.Download(canonical(src), dst)
}

// DownloadDir implements packersdk.Communicator.
func (l *Layers) DownloadDir(src, dst string, exclude []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner.DownloadDir(src, dst, exclude)
}

// Start implements packersdk.Communicator. It waits for the command before it
// to end. A command with standard input is run and not remembered.
func (l *Layers) Start(ctx context.Context, remote *packersdk.RemoteCmd) error {
	l.mu.Lock()
	command := canonical(remote.Command)
	if remote.Stdin != nil {
		l.off = true
	}

	l.note("command "+command[:min(len(command), 60)], command)
	recipe := l.recipe(command)

	if !l.off {
		done, err := l.replay(ctx, recipe, remote)
		if err != nil || done {
			l.mu.Unlock()
			return err
		}
	}

	l.misses++
	go func() {
		defer l.mu.Unlock()
		remote.SetExited(l.run(ctx, recipe, command, remote))
	}()
	return nil
}

// replay answers from the store and tells whether it could.
func (l *Layers) replay(ctx context.Context, recipe store.Recipe, remote *packersdk.RemoteCmd) (bool, error) {
	dir, ok := l.store.Find(recipe)
	if !ok {
		return false, nil
	}
	stored, err := loadLayer(dir)
	if err != nil {
		return false, l.store.Remove(recipe, err) // the command runs and makes it again
	}
	l.tree = nil
	if err := l.apply(ctx, stored); err != nil {
		l.off = true
		return false, fmt.Errorf("restore the result of a cached command: %w: try again, or delete %s", err, dir)
	}

	l.hits++
	for _, o := range stored.Output {
		w := remote.Stdout
		if o.Stderr {
			w = remote.Stderr
		}
		if w != nil {
			_, _ = w.Write(o.Bytes) // as of a command whose output nobody reads
		}
	}
	remote.SetExited(0)
	return true, nil
}

// run runs the command and, when it succeeds, stores what it did.
func (l *Layers) run(ctx context.Context, recipe store.Recipe, command string, remote *packersdk.RemoteCmd) (status int) {
	var before listing
	var err error
	if !l.off {
		if before, err = l.list(ctx); err != nil {
			l.off = true
		}
	}

	rec := &recorder{}
	inner := &packersdk.RemoteCmd{Command: command, Stdin: remote.Stdin,
		Stdout: rec.tee(remote.Stdout, false), Stderr: rec.tee(remote.Stderr, true)}
	l.tree = nil
	if err := l.inner.Start(ctx, inner); err != nil {
		l.off = true
		rec.complain(remote.Stderr, err)
		return packersdk.CmdDisconnect
	}

	if status = inner.Wait(); status != 0 {
		l.off = true
	}
	if l.off {
		return status
	}

	// A command that worked is not failed by a cache that does not: without
	// the layer, what comes after cannot be one either.
	if err := l.keep(ctx, recipe, before, command, rec); err != nil {
		l.off = true
		rec.complain(remote.Stderr, fmt.Errorf("cannot cache this command: %w", err))
	}
	return status
}

// layer is the result of one command, stored as layer.json beside the tar
// archive of the files it changed.
type layer struct {
	Command string   `json:"command"`
	Removed []string `json:"removed,omitempty"` // paths below the root, "./" first
	Output  []output `json:"output,omitempty"`
	Size    int64    `json:"size"`   // of the archive, bytes
	SHA256  string   `json:"sha256"` // of the archive

	dir string
}

type output struct {
	Stderr bool   `json:"stderr,omitempty"`
	Bytes  []byte `json:"bytes"`
}

// loadLayer reads the layer in dir and verifies it.
func loadLayer(dir string) (*layer, error) {
	b, err := os.ReadFile(filepath.Join(dir, layerMeta))
	if err != nil {
		return nil, err
	}
	stored := &layer{dir: dir}
	if err := json.Unmarshal(b, stored); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, layerChanges))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err := io.Copy(h, f); err != nil || n != stored.Size || hex.EncodeToString(h.Sum(nil)) != stored.SHA256 {
		return nil, fmt.Errorf("%s has other content", layerChanges)
	}
	return stored, nil
}

// apply makes of the tree before the command the tree after it.
func (l *Layers) apply(ctx context.Context, stored *layer) error {
	n := l.inner.root.Namespace
	if len(stored.Removed) > 0 {
		cmd := n.Command(ctx, "bash", "-c", removeScript, "remove", l.inner.root.Dir)
		cmd.Stdin = strings.NewReader(strings.Join(stored.Removed, "\x00") + "\x00")
		if err := userns.Run(ctx, cmd, "remove files"); err != nil {
			return err
		}
	}
	if stored.Size == 0 {
		return nil
	}
	f, err := os.Open(filepath.Join(stored.dir, layerChanges))
	if err != nil {
		return err
	}
	defer f.Close()
	return n.Untar(ctx, l.inner.root.Dir, f)
}

// keep makes a layer of what changed since before.
func (l *Layers) keep(ctx context.Context, recipe store.Recipe, before listing, command string, rec *recorder) error {
	said, ok := rec.said()
	if !ok {
		return fmt.Errorf("it said more than %d MiB", maxLayerOutput>>20)
	}
	after, err := l.list(ctx)
	if err != nil {
		return err
	}

	changed, removed := before.compare(after)
	_, _, err = l.store.Make(ctx, recipe, func(ctx context.Context, dir string) error {
		made := layer{Command: command, Removed: removed, Output: said}
		var err error
		if made.Size, made.SHA256, err = l.archive(ctx, changed, filepath.Join(dir, layerChanges)); err != nil {
			return err
		}
		b, err := json.Marshal(made)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, layerMeta), b, 0o644)
	})
	return err
}

// archive writes the paths of the tree to file.
func (l *Layers) archive(ctx context.Context, paths []string, file string) (size int64, digest string, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()

	h, count := sha256.New(), new(counter)
	if len(paths) > 0 {
		cmd := l.inner.root.Namespace.Command(ctx, "tar", "--create", "--file=-", "--directory="+l.inner.root.Dir,
			"--no-recursion", "--null", "--verbatim-files-from", "--files-from=-",
			"--numeric-owner", "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
			"--xattrs", "--xattrs-include=security.capability", "--warning=no-file-ignored")
		cmd.Env = append(os.Environ(), "LC_ALL=C", "TAR_OPTIONS=")
		cmd.Stdin = strings.NewReader(strings.Join(paths, "\x00") + "\x00")
		cmd.Stdout = io.MultiWriter(f, h, count)
		if err := userns.Run(ctx, cmd, "archive changes"); err != nil {
			return 0, "", err
		}
	}

	return int64(*count), hex.EncodeToString(h.Sum(nil)), f.Close()
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// listing is a tree: from path, "./" first, to what shows that it changed.
type listing map[string]entry

type entry struct{ kind, stamp string }

// list looks at the tree, unless nothing happened since it last did.
func (l *Layers) list(ctx context.Context) (listing, error) {
	if l.tree != nil {
		return l.tree, nil
	}

	// The change time, to the nanosecond, tells of everything that can
	// happen to a file, and no program can set it back.
	cmd := l.inner.root.Namespace.Command(ctx, "find", ".", "-xdev",
		"(", "-path", "./dev", "-o", "-path", "./proc", "-o", "-path", "./run", "-o", "-path", "./sys", ")", "-prune",
		"-o", "-type", "s", "-o", "-printf", `%p\0%y\0%i %C@ %s %m %U %G\0`)
	cmd.Dir = l.inner.root.Dir

	var out bytes.Buffer
	cmd.Stdout = &out
	if err := userns.Run(ctx, cmd, "list "+l.inner.root.Dir); err != nil {
		return nil, err
	}

	tree, err := parseListing(out.String())
	if err == nil {
		l.tree = tree
	}
	return tree, err
}

func parseListing(s string) (listing, error) {
	tree := listing{}
	for s != "" {
		var f [3]string
		for i := range f {
			var ok bool
			if f[i], s, ok = strings.Cut(s, "\x00"); !ok {
				return nil, errors.New("find(1) wrote an incomplete list")
			}
		}
		tree[f[0]] = entry{kind: f[1], stamp: f[2]}
	}
	return tree, nil
}

// compare lists what must be written and what must be removed first to make
// after of before, both sorted.
func (before listing) compare(after listing) (changed, removed []string) {
	for path, now := range after {
		if was, ok := before[path]; !ok || was != now {
			changed = append(changed, path)
			if ok && was.kind != now.kind {
				removed = append(removed, path)
			}
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			removed = append(removed, path)
		}
	}
	slices.Sort(changed)
	slices.Sort(removed)
	return changed, removed
}

// recorder keeps the output of a command in the order it came.
type recorder struct {
	mu    sync.Mutex
	out   []output
	bytes int
}

type recorderStream struct {
	*recorder
	to     io.Writer
	stderr bool
}

func (r *recorder) tee(to io.Writer, stderr bool) io.Writer {
	return &recorderStream{recorder: r, to: to, stderr: stderr}
}

func (s *recorderStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.bytes += len(p)
	if s.bytes <= maxLayerOutput {
		if last := len(s.out) - 1; last >= 0 && s.out[last].Stderr == s.stderr {
			s.out[last].Bytes = append(s.out[last].Bytes, p...)
		} else {
			s.out = append(s.out, output{s.stderr, bytes.Clone(p)})
		}
	}
	s.mu.Unlock()
	if s.to == nil {
		return len(p), nil
	}
	return s.to.Write(p)
}

// said returns the output, unless it is too much to keep.
func (r *recorder) said() ([]output, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out, r.bytes <= maxLayerOutput
}

func (r *recorder) complain(w io.Writer, err error) {
	if w != nil {
		fmt.Fprintln(w, err)
	}
}
