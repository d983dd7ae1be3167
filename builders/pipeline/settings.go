package pipeline

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/host/settings"
	workspaceimage "github.com/rockpool/rootvm/images/pipeline"
)

// Environment is what [Load] asks of the machine, so that tests can answer
// instead.
type Environment struct {
	Getenv  func(string) string
	HomeDir func() (string, error)
	// CommitTime is the time of the last commit in the checkout at dir that
	// changed something at paths, as git takes them, in seconds since 1970:
	// [GitCommitTime].
	CommitTime func(dir string, paths ...string) (int64, error)
}

// Load returns the pipeline for the checkout at source as the environment's
// variables say, which README.md lists. It reports every fault at once.
func Load(source string, env Environment, out io.Writer) (*Pipeline, error) {
	p := &Pipeline{Source: source, Dist: filepath.Join(source, "dist"), CacheSize: defaultCacheSize, Out: out}
	list := p.settings()
	fault := list.FromEnv(env.Getenv, nil)

	if p.Spec.SourceDateEpoch == 0 {
		var err error
		if p.Spec.SourceDateEpoch, err = env.CommitTime(source, commitPaths()...); err != nil {
			p.epochFault = fmt.Errorf("the commit's time is not known (%w): set SOURCE_DATE_EPOCH, the latest time in the image, in seconds since 1970", err)
		}
	}
	p.Spec.FillDefaults()
	valid := p.Spec
	if p.epochFault != nil {
		valid.SourceDateEpoch = 1 // only a build needs one
	}

	p.WorkspaceImage.Suite = p.Spec.Suite
	p.WorkspaceImage.SourceDateEpoch = p.Spec.SourceDateEpoch
	p.WorkspaceImage.Version = builders.Version + "-" + builders.Prerelease
	p.WorkspaceImage.FillDefaults("linux/" + p.Spec.Architecture)

	place := settings.Directory{Getenv: env.Getenv, HomeDir: env.HomeDir}
	return p, errors.Join(fault, valid.Validate(), place.Cache(&p.CacheDir))
}

// settings lists what a user may set of a build.
func (p *Pipeline) settings() settings.List {
	var list settings.List
	p.Spec.Bind((*specSettings)(&list))
	return append(list, settings.List{
		{Env: "MIRROR", Usage: "Debian archives, tried in order", Value: settings.Words(&p.Mirrors)},
		{Env: "FORCE", Usage: "build even when nothing changed", Value: settings.Bool(&p.Force)},
		{Env: "PLAIN_HTTP", Usage: "registries have no TLS", Value: settings.Bool(&p.PlainHTTP)},
		{Env: "WORKSPACE_PLATFORMS", Usage: "platforms of the workspace image", Value: settings.Words(&p.WorkspaceImage.Platforms)},
		{Env: "BASE", Usage: "reference of the Debian image to start from", Value: settings.Text(&p.WorkspaceImage.Base)},
		{Env: "ROCKPOOL_CACHE", Usage: "directory of what can be made again", Value: settings.Path(&p.CacheDir, p.Source)},
		{Env: "ROCKPOOL_CACHE_SIZE", Usage: "how much of what was made is kept", Value: settings.Size(&p.CacheSize)},
	}...)
}

// specSettings collects for [builders.Spec.Bind].
type specSettings settings.List

var _ builders.Settings = (*specSettings)(nil)

func (l *specSettings) Text(env, usage string, value *string) {
	*l = append(*l, settings.Setting{Env: env, Usage: usage, Value: settings.Text(value)})
}

func (l *specSettings) Words(env, usage string, value *[]string) {
	*l = append(*l, settings.Setting{Env: env, Usage: usage, Value: settings.Words(value)})
}

func (l *specSettings) Size(env, usage string, value *int64) {
	*l = append(*l, settings.Setting{Env: env, Usage: usage, Value: settings.Size(value)})
}

func (l *specSettings) Number(env, usage string, value *int64) {
	*l = append(*l, settings.Setting{Env: env, Usage: usage, Value: settings.Number(value)})
}

// Workspaces is the pipeline of the workspace image that goes into this one.
func (p *Pipeline) Workspaces() *workspaceimage.Pipeline {
	return &workspaceimage.Pipeline{
		Spec: p.WorkspaceImage, Source: p.Source, Dist: p.Dist, CacheDir: p.CacheDir,
		Mirrors: p.Mirrors, Force: p.Force, PlainHTTP: p.PlainHTTP, Out: p.Out,
	}
}

// GitCommitTime is [Environment.CommitTime] for a git checkout.
func GitCommitTime(dir string, paths ...string) (int64, error) {
	args := append([]string{"-C", dir, "log", "-1", "--format=%ct", "--"}, paths...)
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			first, _, _ := strings.Cut(string(exit.Stderr), "\n")
			return 0, fmt.Errorf("git: %s", first)
		}
		return 0, err
	}
	seconds := strings.TrimSpace(string(out))
	if seconds == "" {
		return 0, errors.New("git: no commit has what the image is made from")
	}
	return strconv.ParseInt(seconds, 10, 64)
}
