package agent

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Status is a state of a workspace.
type Status string

// The states. Creating covers every way to running: the first and each later
// start.
const (
	StatusCreating Status = "creating"
	StatusRunning  Status = "running"
	StatusStopping Status = "stopping"
	StatusStopped  Status = "stopped"
	StatusError    Status = "error"
)

// Statuses lists the states in the order in which a workspace passes them.
func Statuses() []Status {
	return []Status{StatusCreating, StatusRunning, StatusStopping, StatusStopped, StatusError}
}

// transitions are the only ways from one state to another. doc/states.md says
// what each is for.
var transitions = map[Status][]Status{
	StatusCreating: {StatusRunning, StatusStopping, StatusError},
	StatusRunning:  {StatusStopping, StatusError},
	StatusStopping: {StatusStopped, StatusError},
	StatusStopped:  {StatusCreating},
	StatusError:    {StatusCreating, StatusStopping},
}

// Transition returns nil when a workspace may go from one state to another,
// and else a conflict.
func Transition(from, to Status) error {
	if slices.Contains(transitions[from], to) {
		return nil
	}
	return Errorf(CodeConflict, "Cannot transition from %q to %q", from, to)
}

// Deletable returns nil when a workspace in this state may be deleted, and
// else a conflict.
func (s Status) Deletable() error {
	if s != StatusRunning {
		return nil
	}
	return Errorf(CodeConflict, "Cannot delete workspace in %q state. Stop it first.", s)
}

// ManagesPorts returns nil when ports may be registered in this state, and
// else a conflict.
func (s Status) ManagesPorts() error {
	if s == StatusRunning {
		return nil
	}
	return Errorf(CodeConflict, "Ports can only be managed when workspace is running (current: %q)", s)
}

// DefaultImage is the image of a workspace that asked for none.
const DefaultImage = "rockpool-workspace"

// Workspace is one IDE and its files.
type Workspace struct {
	ID            string
	Name          string
	Status        Status
	Image         string // a reference, as asked for
	ImageDigest   string // of the image that its files belong to, "" before there are any
	Description   string
	RepositoryID  string // as asked for: owner/repo or a git URL; "" is none
	AutoSyncPrefs bool
	Limits        Limits // as its owner set them
	Address       string // host:port that Caddy dials, "" while not running
	ErrorMessage  string // a sentence for the user, "" when there is nothing to say
	Shortage      Shortage
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// IDEPort is where the IDE of a workspace listens in its container. No preview
// leads there: the IDE has an origin of its own. Nothing else of the product's
// listens in a workspace's network.
const IDEPort = 8080

// MaxPorts is how many ports a workspace may register.
const MaxPorts = 5

// Port is an application's port inside a workspace, reachable as a preview.
type Port struct {
	WorkspaceID string
	Port        int
	Label       string
	CreatedAt   time.Time
}

// NewWorkspace is what a user asks for.
type NewWorkspace struct {
	Name          string
	Image         string // "" or [DefaultImage] is the default
	Description   string
	RepositoryID  string
	AutoSyncPrefs bool
	Token         string // secret for the first clone: kept in memory until that is done, stored nowhere; "" is none
}

const (
	maxDescription = 1000
	maxImage       = 255
	maxRepository  = 2048
	maxLabel       = 100
	maxToken       = 1024
)

var (
	workspaceName    = regexp.MustCompile(`^[a-z0-9-]{3,63}$`)
	githubRepository = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}$`)
	imageReference   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$`)
)

// Validate returns nil, or a validation error that names every fault.
func (n NewWorkspace) Validate() error {
	var v validation
	v.check(workspaceName.MatchString(n.Name), "name", "must be 3 to 63 characters of a-z, 0-9 and dashes")
	v.check(n.Image == "" || len(n.Image) <= maxImage && imageReference.MatchString(n.Image), "image", "must be the reference of an image")
	v.check(plainText(n.Description, maxDescription), "description", fmt.Sprintf("must be text of at most %d characters", maxDescription))
	v.check(len(n.Token) <= maxToken && !strings.ContainsFunc(n.Token, func(c rune) bool { return c <= ' ' || c > '~' }), "token", "must be printable ASCII characters without spaces")
	v.check(n.RepositoryID == "" || validRepository(n.RepositoryID), "repositoryId", "must be owner/repository, or an https address without credentials")
	return v.err()
}

// validRepository accepts owner/repo and https URLs. Credentials do not
// belong into a URL, which ends up in logs and in the workspace's files.
func validRepository(s string) bool {
	if githubRepository.MatchString(s) {
		_, repo, _ := strings.Cut(s, "/")
		return repo != "." && repo != ".."
	}
	if len(s) > maxRepository || !plainText(s, maxRepository) || strings.ContainsAny(s, " \\") {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == "" && strings.Trim(u.Path, "/") != ""
}

// NewPort is a port a user asks for.
type NewPort struct {
	Port  int
	Label string
}

// Validate returns nil, or a validation error that names every fault.
func (n NewPort) Validate() error {
	var v validation
	v.check(n.Port >= 1024 && n.Port <= 65535, "port", "must be a number from 1024 to 65535")
	v.check(n.Port != IDEPort, "port", fmt.Sprintf("must be another: %d is the IDE's own", IDEPort))
	v.check(plainText(n.Label, maxLabel), "label", fmt.Sprintf("must be text of at most %d characters", maxLabel))
	return v.err()
}

// plainText reports whether s is short enough and has no control characters
// but line ends and tabs.
func plainText(s string, limit int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= limit && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < ' ' || c == 0x7f) && c != '\n' && c != '\r' && c != '\t'
	})
}

// validation collects faults.
type validation struct{ fields []Field }

func (v *validation) check(ok bool, path, message string) {
	if !ok {
		v.fields = append(v.fields, Field{Path: path, Message: message})
	}
}

// err returns the faults as one error whose text names the first.
func (v *validation) err() error {
	if v.fields == nil {
		return nil
	}
	e := Errorf(CodeValidation, "%s %s", v.fields[0].Path, v.fields[0].Message)
	e.Fields = v.fields
	return e
}
