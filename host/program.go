package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rockpool/rootvm/host/preflight"
	"github.com/rockpool/rootvm/vm"
)

// Program is the program that the verbs belong to.
type Program struct {
	// Command is how a user calls a verb on an instance, for messages: of
	// Command("", "vm", "start") it is "rockpool vm start", or "go tool mage
	// vm:start". The name of an instance that is not the default comes with it.
	Command func(instance string, verb ...string) string

	// Supervisor returns the argument vector of the program as an instance's
	// supervisor, as [vm.Host.Supervisor] takes it.
	Supervisor func(context.Context) ([]string, error)

	// Image returns the directory or manifest of the image to start when none
	// is given, and makes it when there is none. It says its progress on the
	// writer. Nil: an image has to be given, or to be known from before.
	Image func(context.Context, io.Writer) (path string, err error)

	// Artifacts fetches images from registries. Nil: they are given by
	// directory only.
	Artifacts Artifacts

	// Checkout is the directory that Image builds from. An instance belongs to
	// the first checkout that starts it.
	Checkout string

	// Checks are what doctor looks at beside what running needs.
	Checks func(context.Context) []preflight.Check

	// ReleaseKey are public keys, as in authorized_keys(5), of which one has
	// signed what verify checks when no other is given.
	ReleaseKey string

	// Needs are the host packages that up installs when they are missing.
	Needs []preflight.Need
}

// Standalone is the program rockpool: it is its own supervisor, and builds
// nothing.
func Standalone() Program {
	return Program{
		Command:    standaloneCommand,
		Supervisor: superviseBySelf,
		Needs:      preflight.Running(),
	}
}

// Name is the name of the stand-alone program.
const Name = "rockpool"

func standaloneCommand(instance string, verb ...string) string {
	line := Name + " " + strings.Join(verb, " ")
	if instance != "" {
		line += " --name " + instance
	}
	return line
}

// MageCommand is [Program.Command] of the targets in a checkout.
func MageCommand(instance string, verb ...string) string {
	line := "go tool mage " + strings.Join(verb, ":")
	if instance != "" {
		line = "ROOT_VM_NAME=" + instance + " " + line
	}
	return line
}

// SuperviseVerb is the verb under which the stand-alone program supervises an
// instance.
const SuperviseVerb = "supervise"

func superviseBySelf(context.Context) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, which is to supervise the VM: %w", err)
	}
	return []string{self, SuperviseVerb}, nil
}

// ErrNoImage says that there is no image to start.
var ErrNoImage = errors.New("no image")

// Drivers are the drivers that this program knows, by name: the registry that
// the verbs, the supervisor and the targets share.
func Drivers() vm.Drivers {
	drivers := vm.Drivers{}
	for _, d := range machineDrivers() {
		drivers[d.open().Name()] = d.open
	}
	return drivers
}
