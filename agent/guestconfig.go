package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// GuestConfigVersion is the one version of config.json that is understood.
const GuestConfigVersion = 1

// MaxGuestConfigSize bounds config.json, in bytes.
const MaxGuestConfigSize = 64 << 10

// GuestConfig is config.json on the configuration disk: what the host tells
// the VM. The disk is read on each boot; a VM without one uses the zero value
// with [GuestConfig.FillDefaults].
type GuestConfig struct {
	Version     int              `json:"version"`
	Hostname    string           `json:"hostname,omitempty"`
	UID         uint32           `json:"uid"`   // owner of the shared directory on the host; 0: unknown
	GID         uint32           `json:"gid"`   // the same for its group
	Share       string           `json:"share"` // tag of the shared directory
	Ports       GuestPorts       `json:"ports"`
	Credentials GuestCredentials `json:"credentials"`
}

// GuestPorts are the ports on the host that lead into the VM, so that pages
// served inside can name addresses that work outside.
type GuestPorts struct {
	SSH       uint16 `json:"ssh"`
	Dashboard uint16 `json:"dashboard"`
	IDE       uint16 `json:"ide"`
	Preview   uint16 `json:"preview"`
}

// GuestCredentials are those of the dashboard. Without a hash the VM makes a
// password of its own.
type GuestCredentials struct {
	Username     string `json:"username"`
	PasswordHash string `json:"passwordHash,omitempty"` // bcrypt
}

var (
	hostnamePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	sharePattern    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,35}$`) // virtiofs tags end at 36 bytes
	usernamePattern = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,64}$`)
	bcryptPattern   = regexp.MustCompile(`^\$2[aby]\$(0[4-9]|1[0-9]|2[0-4])\$[./A-Za-z0-9]{53}$`)
)

// DecodeGuestConfig reads config.json, fills in the defaults and checks it.
// Unknown keys are ignored, so that a newer host can start an older image;
// everything else is strict. The error is one line that names every fault.
func DecodeGuestConfig(r io.Reader) (GuestConfig, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxGuestConfigSize+1))
	if err != nil {
		return GuestConfig{}, fmt.Errorf("read config.json: %w", err)
	}
	if len(b) > MaxGuestConfigSize {
		return GuestConfig{}, fmt.Errorf("config.json is larger than %d bytes", MaxGuestConfigSize)
	}
	if !utf8.Valid(b) {
		return GuestConfig{}, errors.New("config.json is not UTF-8 text")
	}
	var c GuestConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return GuestConfig{}, fmt.Errorf("config.json is not what this image understands: %w", err)
	}
	if c.Version != GuestConfigVersion {
		return GuestConfig{}, fmt.Errorf("config.json has version %d, this image understands version %d: build the image and start the VM from the same release", c.Version, GuestConfigVersion)
	}
	c.FillDefaults()
	if err := c.Validate(); err != nil {
		return GuestConfig{}, err
	}
	return c, nil
}

// FillDefaults sets what is absent, except the user and group ids.
func (c *GuestConfig) FillDefaults() {
	setDefault(&c.Version, GuestConfigVersion)
	setDefault(&c.Hostname, "rockpool-root")
	setDefault(&c.Share, "rockpool")
	setDefault(&c.Ports.SSH, 2222)
	setDefault(&c.Ports.Dashboard, 8080)
	setDefault(&c.Ports.IDE, 8081)
	setDefault(&c.Ports.Preview, 8082)
	setDefault(&c.Credentials.Username, "admin")
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Validate reports every fault in one line.
func (c GuestConfig) Validate() error {
	var faults []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	check(hostnamePattern.MatchString(c.Hostname), "hostname %.80q is not a host name of 1 to 63 letters a-z, digits and dashes", c.Hostname)
	check(sharePattern.MatchString(c.Share), "share %.80q is not a mount tag of 1 to 35 letters, digits, dots and dashes", c.Share)
	check(usernamePattern.MatchString(c.Credentials.Username), "credentials.username %.80q is not a name of 1 to 64 letters, digits, dots and dashes", c.Credentials.Username)
	hash := c.Credentials.PasswordHash
	check(hash == "" || bcryptPattern.MatchString(hash), "credentials.passwordHash is not a bcrypt hash")
	check(c.UID != ^uint32(0) && c.GID != ^uint32(0), "uid and gid must be below 4294967295")
	if faults != nil {
		return fmt.Errorf("config.json: %s", strings.Join(faults, "; "))
	}
	return nil
}
