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
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/userns"
)

//go:embed scripts/remove.sh
var removeScript string

const (
	layersFormat    = "rockpool layers 2" // changes when a stored layer would be wrong
	keptChains      = 8                   // builds whose layers are kept
	youngLayer      = time.Hour           // a layer of another build under way is not pruned
	maxLayerOutput  = 8 << 20             // bytes; a command that says more is not cached
	layerMeta       = "layer.json"
	layerChanges    = "changes.tar"
	chainsDirectory = "chains"
)

// Layers is a [Communicator] with a memory. The root file system's base, every upload
// and every command make a chain of digests. A command whose chain was seen
// before is not run: the changes it made are laid into the root file system
// and its output is said again. What follows the first difference runs for
// real. Uploads always happen; they are cheap.
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
	dir   string // of the store: <digest>/ per layer, chains/
	chain string // file that lists the layers of this build

	mu     sync.Mutex
	key    string   // digest of the chain so far
	keys   []string // of the layers of this build
	hits   int
	misses int
	off    bool    // a command failed: nothing is remembered any more
	tree   listing // of the root file system as it is; nil when unknown
}

var _ packersdk.Communicator = (*Layers)(nil)

// NewLayers opens the store of layers in dir, which builds may share. base is the
// digest of what the root file system holds now, all of it: of the archive that
// it was extracted from, not of what that was made from. Layers of builds longer ago
// than the last few are pruned.
func NewLayers(root *userns.Root, dir, base string) (*Layers, error) {
	if err := os.MkdirAll(filepath.Join(dir, chainsDirectory), 0o755); err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	if err := pruneLayers(dir, keptChains, time.Now()); err != nil {
		return nil, fmt.Errorf("prune layers: %w", err)
	}
	name := fmt.Sprintf("%d-%d", time.Now().UnixNano(), os.Getpid())
	l := &Layers{inner: New(root), dir: dir, chain: filepath.Join(dir, chainsDirectory, name)}
	l.key = chainKey("", append([]string{layersFormat, base}, root.Surroundings()...)...)
	return l, nil
}

// Hits tells how many commands were answered from the store and how many ran.
func (l *Layers) Hits() (hits, misses int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hits, l.misses
}

// chainKey digests what happened after the chain of digest previous.
func chainKey(previous string, parts ...string) string {
	h := sha256.New()
	for _, part := range append([]string{previous}, parts...) {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
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
	l.key = chainKey(l.key, "upload", dst, mode, name, hex.EncodeToString(h.Sum(nil)))
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
	l.key = chainKey(l.key, "upload directory", dst, base, hex.EncodeToString(h.Sum(nil)))
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

	l.key = chainKey(l.key, "start", command)

	if !l.off {
		done, err := l.replay(ctx, remote)
		if err != nil || done {
			l.mu.Unlock()
			return err
		}
	}

	l.misses++
	go func() {
		defer l.mu.Unlock()
		remote.SetExited(l.run(ctx, command, remote))
	}()
	return nil
}

// replay answers from the store and tells whether it could.
func (l *Layers) replay(ctx context.Context, remote *packersdk.RemoteCmd) (bool, error) {
	stored, err := loadLayer(filepath.Join(l.dir, l.key))
	if err != nil {
		return false, nil // absent or damaged: the command runs and replaces it
	}
	l.tree = nil
	if err := l.apply(ctx, stored); err != nil {
		l.off = true
		return false, fmt.Errorf("restore the result of a cached command: %w: try again, or delete %s", err, l.dir)
	}

	l.hits++
	l.record()
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
func (l *Layers) run(ctx context.Context, command string, remote *packersdk.RemoteCmd) (status int) {
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
	if err := l.store(ctx, before, command, rec); err != nil {
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
		return nil, fmt.Errorf("layer %s is damaged", dir)
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

// store makes a layer of what changed since before.
func (l *Layers) store(ctx context.Context, before listing, command string, rec *recorder) error {
	said, ok := rec.said()
	if !ok {
		return fmt.Errorf("it said more than %d MiB", maxLayerOutput>>20)
	}
	after, err := l.list(ctx)
	if err != nil {
		return err
	}

	changed, removed := before.compare(after)
	partial, err := os.MkdirTemp(l.dir, ".partial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(partial)

	made := layer{Command: command, Removed: removed, Output: said}
	if made.Size, made.SHA256, err = l.archive(ctx, changed, filepath.Join(partial, layerChanges)); err != nil {
		return err
	}
	b, err := json.Marshal(made)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(partial, layerMeta), b, 0o644); err != nil {
		return err
	}

	final := filepath.Join(l.dir, l.key)
	if _, err := loadLayer(final); err != nil {
		if err := os.RemoveAll(final); err != nil { // damaged
			return err
		}
		if err := os.Rename(partial, final); err != nil {
			return err
		}
	}
	l.record()
	return nil
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

	return int64(*count), hex.EncodeToString(h.Sum(nil)), errors.Join(f.Sync(), f.Close())
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// record notes the layer of the current key as used by this build. It is only
// for pruning: that it cannot be noted is no harm.
func (l *Layers) record() {
	l.keys = append(l.keys, l.key)
	_ = builders.WriteFile(l.chain, []byte(strings.Join(l.keys, "\n")+"\n"))
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

// pruneLayers removes what none of the newest keep chains uses, except what is
// so young that a build under way may just have made it.
func pruneLayers(dir string, keep int, now time.Time) error {
	chains, err := os.ReadDir(filepath.Join(dir, chainsDirectory))
	if err != nil {
		return err
	}
	// Their names begin with the time, of the same number of digits.
	slices.SortFunc(chains, func(a, b os.DirEntry) int { return strings.Compare(b.Name(), a.Name()) })

	used := map[string]bool{}
	for i, chain := range chains {
		file := filepath.Join(dir, chainsDirectory, chain.Name())
		if i >= keep {
			_ = os.Remove(file)
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			continue // removed by another build
		}
		for key := range strings.Lines(string(b)) {
			used[strings.TrimSpace(key)] = true
		}
	}

	layers, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range layers {
		fi, err := d.Info()
		if err != nil || used[d.Name()] || d.Name() == chainsDirectory || now.Sub(fi.ModTime()) < youngLayer {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
			return err
		}
	}
	return nil
}
