package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/oci"
)

// carriedAt is where the Root VM's image has the workspace image: rootfs/,
// config.json and digest. The agent looks there.
const carriedAt = guest.WorkspaceDir

// WorkspaceManifest is the record of a build of the workspace image, beside it
// in dist/. All but Steps is a function of the inputs.
type WorkspaceManifest struct {
	Name            string              `json:"name"`
	Suite           string              `json:"suite"`
	Base            string              `json:"base,omitempty"` // a reference; empty: our own
	SourceDateEpoch int64               `json:"sourceDateEpoch"`
	Revision        string              `json:"revision,omitempty"` // of the definition
	InputDigest     string              `json:"inputDigest"`
	Reference       string              `json:"reference"` // the name it loads under
	Digest          string              `json:"digest"`    // of the image, or of the index when there are several
	Layout          string              `json:"layout"`    // name of the OCI layout's directory, beside the manifest
	Images          []WorkspaceImage    `json:"images"`
	Artifacts       []builders.Artifact `json:"artifacts"`
	Steps           []builders.Step     `json:"steps"`
}

// WorkspaceImage is the image of one platform.
type WorkspaceImage struct {
	Platform       string `json:"platform"`
	Digest         string `json:"digest"`
	CompressedSize int64  `json:"compressedSize"` // of all layers, bytes
	LockDigest     string `json:"lockDigest"`     // of the Debian packages
}

// workspace is a build of the workspace image under way.
type workspace struct {
	*Pipeline
	spec   images.Spec
	locks  map[string]*bootstrap.PackageLock // by platform
	inputs string
}

// newWorkspace decides what to build. The newest time in the image is that of
// the package lock or SOURCE_DATE_EPOCH, whichever is earlier, and the revision
// is that of the last change to the definition: a commit that changes something
// else does not make another image.
func (p *Pipeline) newWorkspace(ctx context.Context) (*workspace, error) {
	if err := p.Settings.EpochErr; err != nil {
		return nil, err
	}
	w := &workspace{Pipeline: p, spec: p.Settings.Workspace, locks: map[string]*bootstrap.PackageLock{}}
	w.spec.Revision = revision(ctx, p.Settings.Source, definition...)
	w.spec.SourceDateEpoch = p.Settings.Spec.SourceDateEpoch
	for _, platform := range w.spec.Platforms {
		if !slices.Contains(images.Platforms, platform) {
			break // Validate says it better
		}
		lock, err := bootstrap.Lock(w.spec.Suite, images.Architecture(platform), "workspace")
		if err != nil {
			return nil, err
		}
		w.locks[platform] = lock
		w.spec.SourceDateEpoch = min(w.spec.SourceDateEpoch, lock.Date.Unix())
	}
	if err := w.spec.Validate(); err != nil {
		return nil, err
	}
	var err error
	w.inputs, err = w.inputDigest(ctx)
	return w, err
}

// definition are the paths of the checkout that decide the image, as git takes
// them: but for go.mod, most of whose changes have nothing to do with it.
var definition = []string{
	"images", "cmd/workspace-image", "builders/bootstrap/locks", "builders/bootstrap/scripts",
	"builders/userns/tar.go", "ci/build/npm.go", ":(exclude)*_test.go",
}

// inputDigest names everything the image is made from. The modules that shape
// its bytes stand for the builder's code that is not ours, and the reference of
// a base that is not ours for the image that it names.
func (w *workspace) inputDigest(ctx context.Context) (string, error) {
	h := sha256.New()
	spec, err := json.Marshal(w.spec)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s\n", spec)
	for _, platform := range w.spec.Platforms {
		fmt.Fprintln(h, platform, w.locks[platform].Digest())
		if w.spec.Base == "" {
			key, err := bootstrap.RootfsKey(ctx, w.locks[platform])
			if err != nil {
				return "", err
			}
			fmt.Fprintln(h, key)
		}
		npm, err := npmKey(images.Architecture(platform))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, npm)
	}
	files, err := w.definitionFiles()
	if err != nil {
		return "", err
	}
	for _, file := range files {
		d, err := digestFiles(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, d)
	}
	modules, err := os.ReadFile(filepath.Join(w.Settings.Source, "go.mod"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(modules)) {
		if strings.Contains(line, "/buildah ") || strings.Contains(line, "go.podman.io/") || strings.Contains(line, "/compress ") {
			fmt.Fprintln(h, strings.Fields(line))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// mounted digests what the Containerfile's steps mount for a platform: the
// definition, and npm's trees by the locks in it and what installs them.
func (w *workspace) mounted(platform string) (string, error) {
	definition, err := digestFiles(filepath.Join(w.Settings.Source, "images", "workspace"))
	if err != nil {
		return "", err
	}
	npm, err := npmKey(images.Architecture(platform))
	return digestOf(definition, npm), err
}

// definitionFiles are the directory of the definition and the code that builds
// it, without its tests.
func (w *workspace) definitionFiles() ([]string, error) {
	files := []string{filepath.Join(w.Settings.Source, "images", "workspace")}
	for _, dir := range []string{"images", "images/*", "cmd/workspace-image"} {
		code, err := filepath.Glob(filepath.Join(w.Settings.Source, dir, "*.go"))
		if err != nil {
			return nil, err
		}
		files = append(files, code...)
	}
	return slices.DeleteFunc(files, func(file string) bool { return strings.HasSuffix(file, "_test.go") }), nil
}

func (w *workspace) dist(suffix string) string {
	return filepath.Join(w.Settings.Dist, w.spec.Name()+suffix)
}

// manifest returns the manifest in dist/ when what it names is there.
func (w *workspace) manifest() (WorkspaceManifest, bool) {
	var m WorkspaceManifest
	b, err := os.ReadFile(w.dist(".manifest.json"))
	if err != nil || json.Unmarshal(b, &m) != nil || m.InputDigest != w.inputs {
		return m, false
	}
	for _, a := range m.Artifacts {
		if st, err := os.Stat(filepath.Join(w.Settings.Dist, a.File)); err != nil || st.Size() != a.Size {
			return m, false
		}
	}
	digest, err := w.layout().Digest()
	return m, err == nil && digest == m.Digest
}

func (w *workspace) layout() oci.Layout { return oci.Layout{Dir: w.dist("")} }

// Workspace makes the workspace image into dist/ and returns its manifest.
// When dist/ already holds the image of the same inputs it says so and does
// nothing, unless FORCE is set.
func (p *Pipeline) Workspace(ctx context.Context) (WorkspaceManifest, error) {
	var none WorkspaceManifest
	w, err := p.newWorkspace(ctx)
	if err != nil {
		return none, err
	}
	lock, err := p.lock(ctx)
	if err != nil {
		return none, err
	}
	defer lock.Close()
	return w.build(ctx, lock, p.Settings.Force)
}

// checkHost finds what would make the build fail late.
func (w *workspace) checkHost() error {
	if _, err := userns.New(); err != nil {
		return err
	}
	for _, platform := range w.spec.Platforms {
		if err := canRun(images.Architecture(platform)); err != nil {
			return err
		}
	}
	return errors.Join(
		needSpace(w.Settings.CacheDir, 6*builders.GiB, "set ROCKPOOL_CACHE to a directory elsewhere"),
		needSpace(w.Settings.Source, 1*builders.GiB, "move the checkout"),
	)
}

// canRun tells whether the kernel runs programs of an architecture, by
// emulation if need be.
func canRun(architecture string) error {
	if architecture == hostArchitecture() {
		return nil
	}
	handler := map[string]string{"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}[architecture]
	b, err := os.ReadFile("/proc/sys/fs/binfmt_misc/" + handler)
	if err == nil && strings.HasPrefix(string(b), "enabled") && strings.Contains(string(b), "flags: ") && strings.Contains(flagsOf(string(b)), "F") {
		return nil
	}
	return fmt.Errorf("linux/%s cannot be built on this %s host: its kernel does not run such programs: run `sudo apt-get install qemu-user-binfmt` (Debian 12 and Ubuntu: qemu-user-static), or build on a host of that architecture",
		architecture, hostArchitecture())
}

// flagsOf reads the flags of an entry of binfmt_misc.
func flagsOf(entry string) string {
	for line := range strings.Lines(entry) {
		if rest, ok := strings.CutPrefix(line, "flags: "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// build makes the image unless dist/ has it.
func (w *workspace) build(ctx context.Context, lock *os.File, force bool) (WorkspaceManifest, error) {
	if m, ok := w.manifest(); ok && !force {
		w.say("%s", w.upToDate())
		return m, nil
	}
	if err := w.checkHost(); err != nil {
		return WorkspaceManifest{}, err
	}
	start := time.Now()
	watch := builders.Stopwatch{Now: time.Now}
	definition := filepath.Join(w.Settings.Source, "images", "workspace")
	request := images.Request{
		Spec:       w.spec,
		Bases:      map[string]images.Base{},
		Definition: definition,
		Contexts:   map[string]map[string]string{},
		Inputs:     map[string]string{},
		PlainHTTP:  w.Settings.PlainHTTP,
		Storage:    filepath.Join(w.Settings.CacheDir, "workspace", "storage"),
		Scratch:    filepath.Join(w.Settings.CacheDir, "workspace", "tmp"),
		Layout:     w.dist(""),
	}
	bases := w.begin(ctx, func(ctx context.Context, p *Pipeline) (bool, error) { return w.bases(ctx, p, &request) })
	defer bases.end()
	steps := []struct {
		name string
		run  func() (bool, error)
	}{
		{"Compile the workspace image's builder", func() (bool, error) { return false, w.compile(ctx) }},
		{"Fetch Node.js and code-server", func() (bool, error) { return w.contexts(ctx, &request) }},
		{"Make the base from Debian packages", func() (bool, error) { return bases.wait(w.Out) }},
		{"Build the workspace image", func() (bool, error) { return w.run(ctx, lock, request) }},
		{"Pack as OCI archive", func() (bool, error) { return false, w.layout().Archive(w.dist(".oci.tar")) }},
	}
	for _, s := range steps {
		w.say("==> %s", s.name)
		if err := watch.Time(s.name, s.run); err != nil {
			return WorkspaceManifest{}, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	m, err := w.record(watch.Steps)
	if err != nil {
		return m, err
	}
	w.say("built %s in %.0f s: %s", w.spec.Name(), time.Since(start).Seconds(), m.Digest)
	return m, w.checksums()
}

// upToDate says that nothing is to be done, and what is not known: whether the
// name of a base that is not ours still stands for the same image.
func (w *workspace) upToDate() string {
	said := w.spec.Name() + " is up to date: nothing that goes into it has changed"
	if w.spec.Base != "" && !strings.Contains(w.spec.Base, "@sha256:") {
		said += fmt.Sprintf("; of BASE only the name %s was compared: `FORCE=1 go tool mage workspace:image` takes what it stands for now", w.spec.Base)
	}
	return said
}

func (w *workspace) program() string {
	return filepath.Join(w.Settings.CacheDir, "bin", "workspace-image")
}

func (w *workspace) compile(ctx context.Context) error {
	return w.goBuild(ctx, w.Settings.Source, "./cmd/workspace-image", w.program(), static, "CGO_ENABLED=1")
}

// contexts installs the npm locks for each platform and names what the steps
// mount then.
func (w *workspace) contexts(ctx context.Context, r *images.Request) (bool, error) {
	tools, err := w.Tools(ctx)
	if err != nil {
		return false, err
	}
	all := true
	for _, platform := range w.spec.Platforms {
		mounted, err := w.mounted(platform)
		if err != nil {
			return false, err
		}
		r.Inputs[platform] = mounted[:32]
		r.Contexts[platform] = map[string]string{}
		for _, name := range []string{"node", "vscode"} {
			dir, cached, err := w.node(ctx, tools, "images/workspace/"+name, images.Architecture(platform))
			if err != nil {
				return false, err
			}
			r.Contexts[platform][name] = filepath.Dir(dir)
			all = all && cached
		}
	}
	return all, nil
}

// bases bootstraps our own base for each platform, and writes them to r.
func (w *workspace) bases(ctx context.Context, p *Pipeline, r *images.Request) (bool, error) {
	if w.spec.Base != "" {
		p.say("  from %s", w.spec.Base)
		return true, nil
	}
	all := true
	for _, platform := range w.spec.Platforms {
		lock := w.locks[platform]
		a, cached, err := p.rootfs(ctx, lock)
		if err != nil {
			return false, err
		}
		r.Bases[platform] = images.Base{Archive: a.File, SHA256: a.SHA256, Created: lock.Date.Unix()}
		all = all && cached
	}
	return all, nil
}

// run runs the builder in a namespace of its own: whatever it mounts and
// starts ends with it, even if it is killed.
func (w *workspace) run(ctx context.Context, lock *os.File, r images.Request) (bool, error) {
	request, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(w.Settings.Dist, 0o755); err != nil {
		return false, err
	}
	ns, err := userns.New()
	if err != nil {
		return false, err
	}
	var answer strings.Builder
	cmd := ns.Command(ctx, w.program(), "build")
	userns.Interruptible(cmd) // it gives back what it holds
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(string(request)), &answer, w.Out
	cmd.ExtraFiles = []*os.File{lock}
	cmd.Env = append(os.Environ(), "TMPDIR="+r.Scratch) // not /tmp, which may be small
	if r.Spec.Base != "" {
		cmd.Env = append(cmd.Env, w.credentials()...)
	}
	if ns.Rootless() {
		// It is in a user namespace already; Buildah need not make one.
		cmd.Env = append(cmd.Env, "_CONTAINERS_USERNS_CONFIGURED=done",
			fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", os.Getuid()), fmt.Sprintf("_CONTAINERS_ROOTLESS_GID=%d", os.Getgid()))
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return false, fmt.Errorf("interrupted: the layers that were finished are kept: %w", context.Cause(ctx))
		}
		return false, err
	}
	var result images.Result
	if err := json.Unmarshal([]byte(answer.String()), &result); err != nil {
		return false, fmt.Errorf("read the builder's answer: %w", err)
	}
	if result.Cached == result.Steps {
		w.say("  every step was cached")
		return true, nil
	}
	w.say("  %d of %d steps were cached", result.Cached, result.Steps)
	return false, nil
}

// record writes the manifest.
func (w *workspace) record(steps []builders.Step) (WorkspaceManifest, error) {
	m := WorkspaceManifest{
		Name: w.spec.Name(), Suite: w.spec.Suite, Base: w.spec.Base, SourceDateEpoch: w.spec.SourceDateEpoch, Revision: w.spec.Revision,
		InputDigest: w.inputs, Reference: w.spec.Reference(), Layout: filepath.Base(w.dist("")), Steps: steps,
	}
	var err error
	if m.Digest, err = w.layout().Digest(); err != nil {
		return m, err
	}
	for _, platform := range w.spec.Platforms {
		img, err := w.layout().Image(images.Architecture(platform))
		if err != nil {
			return m, err
		}
		record := WorkspaceImage{Platform: platform, Digest: img.Digest, LockDigest: w.locks[platform].Digest()}
		for _, l := range img.Layers {
			record.CompressedSize += l.Size
		}
		m.Images = append(m.Images, record)
		bill, err := w.sbom(platform, img.Digest)
		if err != nil {
			return m, fmt.Errorf("bill of materials: %w", err)
		}
		m.Artifacts = append(m.Artifacts, bill)
	}
	archive, err := builders.Describe(w.dist(".oci.tar"), "oci-archive")
	if err != nil {
		return m, err
	}
	m.Artifacts = append(m.Artifacts, archive)
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	tmp := w.dist(".manifest.json.part")
	return m, errors.Join(os.WriteFile(tmp, append(b, '\n'), 0o644), os.Rename(tmp, w.dist(".manifest.json")))
}

// carry makes the workspace image that goes into the Root VM's, unless dist/
// has it, and returns the archive to lay over the root file system, and the
// digest that stands for it.
func (p *Pipeline) carry(ctx context.Context, w *workspace, lock *os.File) (file, digest string, err error) {
	m, err := w.build(ctx, lock, false)
	if err != nil {
		return "", "", err
	}
	return w.carried(m)
}

// carried returns an archive of the workspace image as the Root VM's image
// carries it, made when the cache has none of that digest, and the digest.
func (w *workspace) carried(m WorkspaceManifest) (file, digest string, err error) {
	platform := "linux/" + w.Settings.Spec.Architecture
	i := slices.IndexFunc(m.Images, func(i WorkspaceImage) bool { return i.Platform == platform })
	if i < 0 {
		return "", "", fmt.Errorf("the workspace image is not of %s: set WORKSPACE_PLATFORMS to it", platform)
	}
	digest = m.Images[i].Digest
	dir := filepath.Join(w.Settings.CacheDir, "workspace", "carried")
	file = filepath.Join(dir, strings.TrimPrefix(digest, "sha256:")+".tar")
	if _, err := os.Stat(file); err == nil {
		return file, digest, nil
	}
	old, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return "", "", err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return "", "", err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	img, err := w.layout().Image(w.Settings.Spec.Architecture)
	if err != nil {
		return "", "", err
	}
	return file, digest, img.Flatten(file, carriedAt)
}

// CleanWorkspace removes the storage of layers, files of the user's
// subordinate ids included.
func (p *Pipeline) CleanWorkspace(ctx context.Context) error {
	lock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	ns, err := userns.New()
	if err != nil {
		return err
	}
	return ns.RemoveAll(filepath.Join(p.Settings.CacheDir, "workspace"))
}

// Push copies the workspace image in dist/, which must be up to date, to a
// registry.
func (p *Pipeline) Push(ctx context.Context, m WorkspaceManifest, reference string) error {
	args := []string{"push"}
	if p.Settings.PlainHTTP {
		args = append(args, "--plain-http")
	}
	w := &workspace{Pipeline: p}
	if err := w.compile(ctx); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, w.program(), append(args, filepath.Join(p.Settings.Dist, m.Layout), reference)...)
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	cmd.Env = append(os.Environ(), w.credentials()...)
	return cmd.Run()
}

// credentials are the variables that lead to the user's credentials for
// registries. Without those of a session the builder would look for them in
// /run/containers, under its number in the namespace, and fail where root has
// closed that directory; see containers-auth.json(5).
func (w *workspace) credentials() []string {
	if os.Getenv("REGISTRY_AUTH_FILE") != "" || os.Getenv("XDG_RUNTIME_DIR") != "" {
		return nil
	}
	file := fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())
	if _, err := os.Stat(file); err == nil {
		return []string{"REGISTRY_AUTH_FILE=" + file}
	}
	return []string{"XDG_RUNTIME_DIR=" + w.Settings.CacheDir}
}
