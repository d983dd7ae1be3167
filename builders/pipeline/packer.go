package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/store"
	"github.com/rockpool/rootvm/builders/toolchain"
)

const (
	// packerPackage is compiled once when the user has no Packer that is new
	// enough, in the module packerDir: it locks the version and leaves out
	// most of what our template never uses (ADR 21).
	packerPackage = "github.com/hashicorp/packer"
	packerDir     = "builders/pipeline/packer"
	// pluginSource is the name the template asks for.
	pluginSource = "github.com/rockpool/rootvm"
)

// minimumPacker is the first release with `plugins install --path`.
var minimumPacker = [2]int{1, 11}

// findPacker begins to compile Packer when neither the user nor the cache has
// one that is new enough, and returns where it will be.
func (p *Pipeline) findPacker(ctx context.Context) (path string, compiled *builders.Background, err error) {
	path, cached, err := p.packerAtHand(ctx)
	if err != nil {
		return "", nil, err
	}
	if !cached {
		p.printLine("compiling Packer beside the rest, once")
	}
	return path, builders.Begin(ctx, func(ctx context.Context, out io.Writer) (bool, error) {
		if cached {
			return true, nil
		}
		return false, p.compilePacker(ctx, out)
	}), nil
}

// packerAtHand returns the user's Packer or the cache's, or where the cache
// will have it.
func (p *Pipeline) packerAtHand(ctx context.Context) (path string, ok bool, err error) {
	if path, err := exec.LookPath("packer"); err == nil {
		out, err := exec.CommandContext(ctx, path, "version").Output()
		if err == nil && newEnough(string(out)) {
			return path, true, nil
		}
		p.printLine("%s is older than %d.%d: using our own", path, minimumPacker[0], minimumPacker[1])
	}
	recipe, err := p.packerRecipe()
	if err != nil {
		return "", false, err
	}
	dir, ok := p.cache(p.Out).Store().Find(recipe)
	return filepath.Join(dir, "packer"), ok, nil
}

// packerRecipe is what Packer is compiled from.
func (p *Pipeline) packerRecipe() (store.Recipe, error) {
	r := store.Recipe{Step: "packer"}
	r.Value("options", fmt.Sprint(toolchain.Plain))
	return r, r.Files("module", filepath.Join(p.Source, packerDir))
}

// compilePacker compiles it into the cache. What the compiler says is shown on
// out when it fails.
func (p *Pipeline) compilePacker(ctx context.Context, out io.Writer) error {
	recipe, err := p.packerRecipe()
	if err != nil {
		return err
	}
	_, _, err = p.cache(out).Store().Make(ctx, recipe, func(ctx context.Context, dir string) error {
		var said bytes.Buffer
		err := toolchain.Build(ctx, filepath.Join(p.Source, packerDir), packerPackage, filepath.Join(dir, "packer"), toolchain.Plain, &said)
		if err != nil {
			_, _ = said.WriteTo(out)
		}
		return err
	})
	return err
}

var versionPattern = regexp.MustCompile(`Packer v(\d+)\.(\d+)\.`)

// newEnough reads the answer of `packer version`.
func newEnough(answer string) bool {
	m := versionPattern.FindStringSubmatch(answer)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major > minimumPacker[0] || major == minimumPacker[0] && minor >= minimumPacker[1]
}

// variables are those of the template, by their names. They are written as one
// file that Packer reads.
type variables struct {
	Spec            builders.Spec `json:"spec"`
	Mirrors         []string      `json:"mirrors"`
	CacheDirectory  string        `json:"cache_directory"`
	WorkDirectory   string        `json:"work_directory"`
	OutputDirectory string        `json:"output_directory"`
	StageDirectory  string        `json:"stage_directory"`
	NodeDirectory   string        `json:"node_directory"`
	WorkspaceRootfs string        `json:"workspace_rootfs"`
	RootUUID        string        `json:"root_uuid"`
	Revision        string        `json:"revision"`
	InputDigest     string        `json:"input_digest"`
}

// made is what the steps before Packer hand to it.
type made struct {
	node            string // the node_modules directory of provision/npm
	workspaceRootfs string // archive of the workspace's root file system
	workspaceDigest string // of the workspace image
	revision        string // of the checkout
	inputs          string // digest of everything the image is made from
}

// runPacker installs the plugin and builds the template. It returns the
// directory with the finished files.
func (p *Pipeline) runPacker(ctx context.Context, cacheLock *os.File, packer string, m made) (string, error) {
	workDir := filepath.Join(p.CacheDir, "work", p.Spec.Name())
	out := workDir + ".out"
	if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o755)); err != nil {
		return "", err
	}
	if err := p.packerCommand(ctx, cacheLock, packer, "plugins", "install", "--path", p.plugin(), pluginSource); err != nil {
		return "", fmt.Errorf("install the Packer plugin: %w", err)
	}

	settings := workDir + ".pkrvars.json"
	err := writeVariables(settings, variables{
		Spec:            p.Spec,
		Mirrors:         append([]string{}, p.Mirrors...),
		CacheDirectory:  p.CacheDir,
		WorkDirectory:   workDir,
		OutputDirectory: out,
		StageDirectory:  p.stage(),
		NodeDirectory:   m.node,
		WorkspaceRootfs: m.workspaceRootfs,
		RootUUID:        p.Spec.UUID("root"),
		Revision:        m.revision,
		InputDigest:     m.inputs,
	})
	if err != nil {
		return "", err
	}
	args := []string{"build", "-color=false", "-timestamp-ui=false", "-var-file=" + settings}
	if left := leftOut(p.Spec.Formats); len(left) > 0 {
		args = append(args, "-except="+strings.Join(left, ","))
	}
	p.printLine("==> packer build packer/")
	if err := p.packerCommand(ctx, cacheLock, packer, append(args, filepath.Join(p.Source, "packer"))...); err != nil {
		return "", fmt.Errorf("packer build: %w", err)
	}
	return out, nil
}

// postProcessors are the names of the template's, each that of the format it
// makes. The builder makes the others.
var postProcessors = []string{"qcow2", builders.TartFormat}

// leftOut are the post-processors whose formats nobody asked for.
func leftOut(formats []string) []string {
	return slices.DeleteFunc(slices.Clone(postProcessors), func(name string) bool { return slices.Contains(formats, name) })
}

func writeVariables(file string, v variables) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return builders.WriteFile(file, b)
}

// cancelLimit is how long Packer may clean up after an interrupt.
const cancelLimit = 30 * time.Second

// packerCommand runs Packer with everything it writes kept in the cache. An
// interrupt is passed on, so that Packer ends its plugins and cleans up.
func (p *Pipeline) packerCommand(ctx context.Context, cacheLock *os.File, packer string, args ...string) error {
	home := filepath.Join(p.CacheDir, "packer")
	cmd := exec.CommandContext(ctx, packer, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = cancelLimit
	cmd.ExtraFiles = []*os.File{cacheLock}
	cmd.Dir = p.Source
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	cmd.Env = append(os.Environ(),
		"CHECKPOINT_DISABLE=1",
		"PACKER_CONFIG_DIR="+filepath.Join(home, "config"),
		"PACKER_CACHE_DIR="+filepath.Join(home, "cache"),
		"PACKER_PLUGIN_PATH="+filepath.Join(home, "plugins"),
	)
	return cmd.Run()
}
