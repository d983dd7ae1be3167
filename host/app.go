package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/rockpool/rootvm/host/preflight"
	"github.com/rockpool/rootvm/host/settings"
	"github.com/rockpool/rootvm/vm"
)

// App is the verbs with what they work on.
type App struct {
	Program  Program
	Settings Settings
	Packages preflight.Host // the host's packages
	In       io.Reader
	Out      io.Writer // what the user asked for, and how it goes
	Err      io.Writer // warnings
}

// Surroundings are what a program finds around it, so that a test can be it.
type Surroundings struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	HomeDir  func() (string, error)
	Dir      string // current directory: relative paths are taken from it
}

// NewApp returns the verbs with the default settings; [App.Load] takes in what
// the user set.
func NewApp(program Program, around Surroundings) *App {
	return &App{
		Program:  program,
		Settings: *newSettings(around.Dir),
		Packages: preflight.ThisHost(program.Needs),
		In:       around.In, Out: around.Out, Err: around.Err,
	}
}

// Group names the settings of some verbs.
type Group int

// The groups. EveryVerb are those of all verbs.
const (
	EveryVerb Group = iota
	Starting
	Stopping
	Asking
	Emulating
)

// List returns the settings of a group, to be bound to flags.
func (a *App) List(g Group) settings.List {
	switch g {
	case Starting:
		return a.Settings.starting()
	case Stopping:
		return a.Settings.stopping()
	case Asking:
		return a.Settings.asking()
	case Emulating:
		return a.Settings.emulating()
	}
	return a.Settings.everyVerb()
}

// Load reads the settings of groups from the environment, but for those whose
// flags were given, and reports every fault at once.
func (a *App) Load(around Surroundings, given func(flag string) bool, groups ...Group) error {
	faults := []error{a.List(EveryVerb).FromEnv(around.Getenv, given)}
	for _, g := range groups {
		faults = append(faults, a.List(g).FromEnv(around.Getenv, given))
	}
	if home, err := around.HomeDir(); err == nil { // who needs it says that there is none
		a.Settings.userHome = home
	}
	place := settings.Directory{Getenv: around.Getenv, HomeDir: around.HomeDir}
	faults = append(faults, place.Cache(&a.Settings.CacheDir), place.State(&a.Settings.StateDir))
	return errors.Join(faults...)
}

func (a *App) printLine(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }

// command is how the user calls a verb on this instance.
func (a *App) command(verb ...string) string {
	name := a.Settings.VM.Name
	if name == vm.DefaultName {
		name = ""
	}
	return a.Program.Command(name, verb...)
}

// instances is the launcher for verbs that start nothing new.
func (a *App) instances() vm.Host {
	return vm.Host{
		Dir:        filepath.Join(a.Settings.StateDir, "instances"),
		Drivers:    Drivers(),
		Supervisor: a.Program.Supervisor,
		Command:    a.command,
		Log:        slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// launcher is the launcher with the driver for an instance.
func (a *App) launcher(ctx context.Context, config vm.Config) (vm.Host, error) {
	h := a.instances()
	driver, err := a.driver().configure(ctx, a, config)
	h.Driver = driver
	return h, err
}
