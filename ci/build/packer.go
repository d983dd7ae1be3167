package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// packerPackage is compiled once when the user has no Packer that is new
	// enough, in the module packerDir: it locks the version and leaves out
	// most of what our template never uses (ADR 21).
	packerPackage = "github.com/hashicorp/packer"
	packerDir     = "ci/build/packer"
	// pluginSource is the name the template asks for.
	pluginSource = "github.com/rockpool/rootvm"
)

// minimumPacker is the first release with `plugins install --path`.
var minimumPacker = [2]int{1, 11}

// findPacker begins to compile Packer when neither the user nor the cache has
// one that is new enough, and returns where it will be.
func (p *Pipeline) findPacker(ctx context.Context) (path string, compiled *beside, err error) {
	path, cached, err := p.packerAtHand(ctx)
	if err != nil {
		return "", nil, err
	}
	if !cached {
		p.say("compiling Packer beside the rest, once")
	}
	return path, p.begin(ctx, func(ctx context.Context, p *Pipeline) (bool, error) {
		if cached {
			return true, nil
		}
		return false, p.compilePacker(ctx, path)
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
		p.say("%s is older than %d.%d: using our own", path, minimumPacker[0], minimumPacker[1])
	}
	module, err := digestFiles(filepath.Join(p.Settings.Source, packerDir))
	if err != nil {
		return "", false, err
	}
	path = filepath.Join(p.Settings.CacheDir, "packer", module[:16], "packer")
	_, missing := os.Stat(path)
	return path, missing == nil, nil
}

// compilePacker compiles it to path. What the compiler says is shown when it
// fails.
func (p *Pipeline) compilePacker(ctx context.Context, path string) error {
	var said bytes.Buffer
	quiet := *p
	quiet.Out = &said
	tmp := path + ".part"
	if err := quiet.goBuild(ctx, filepath.Join(p.Settings.Source, packerDir), packerPackage, tmp, static, "CGO_ENABLED=0"); err != nil {
		_, _ = said.WriteTo(p.Out)
		return err
	}
	return os.Rename(tmp, path)
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

// runPacker installs the plugin and builds the template. It returns the
// directory with the finished files.
func (p *Pipeline) runPacker(ctx context.Context, lock *os.File, packer, stage, node, carried, inputs string) (string, error) {
	work := filepath.Join(p.Settings.CacheDir, "work", p.Settings.Spec.Name())
	out := work + ".out"
	if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o755)); err != nil {
		return "", err
	}
	if err := p.packerCommand(ctx, lock, packer, "plugins", "install", "--path", p.plugin(), pluginSource); err != nil {
		return "", fmt.Errorf("install the Packer plugin: %w", err)
	}
	spec := p.Settings.Spec
	args := []string{"build", "-color=false", "-timestamp-ui=false"}
	if !slices.Contains(spec.Formats, "qcow2") {
		args = append(args, "-except=qcow2")
	}
	for _, v := range [][2]string{
		{"suite", spec.Suite},
		{"architecture", spec.Architecture},
		{"disk_size", strconv.FormatInt(spec.DiskSize, 10)},
		{"source_date_epoch", strconv.FormatInt(spec.SourceDateEpoch, 10)},
		{"formats", hclList(spec.Formats)},
		{"mirrors", hclList(p.Settings.Mirrors)},
		{"cache_directory", p.Settings.CacheDir},
		{"work_directory", work},
		{"output_directory", out},
		{"stage_directory", stage},
		{"node_directory", node},
		{"overlay_archive", carried},
		{"root_uuid", spec.UUID("root")},
		{"revision", revision(ctx, p.Settings.Source)},
		{"input_digest", inputs},
	} {
		args = append(args, "-var", v[0]+"="+v[1])
	}
	p.say("==> packer build packer/")
	if err := p.packerCommand(ctx, lock, packer, append(args, filepath.Join(p.Settings.Source, "packer"))...); err != nil {
		return "", fmt.Errorf("packer build: %w", err)
	}
	return out, nil
}

// packerCommand runs Packer with everything it writes kept in the cache. An
// interrupt is passed on, so that Packer ends its plugins and cleans up.
func (p *Pipeline) packerCommand(ctx context.Context, lock *os.File, packer string, args ...string) error {
	home := filepath.Join(p.Settings.CacheDir, "packer")
	cmd := exec.CommandContext(ctx, packer, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = cancelLimit
	cmd.ExtraFiles = []*os.File{lock}
	cmd.Dir = p.Settings.Source
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	cmd.Env = append(os.Environ(),
		"CHECKPOINT_DISABLE=1",
		"PACKER_CONFIG_DIR="+filepath.Join(home, "config"),
		"PACKER_CACHE_DIR="+filepath.Join(home, "cache"),
		"PACKER_PLUGIN_PATH="+filepath.Join(home, "plugins"),
	)
	return cmd.Run()
}

func hclList(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}
