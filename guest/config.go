package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ConfigVersion is the one version of config.json that is understood.
const ConfigVersion = 1

// MaxConfigSize bounds config.json, in bytes.
const MaxConfigSize = 64 << 10

// Config is config.json on the configuration disk: what the host tells
// the VM. The disk is read on each boot; a VM without one uses the zero value
// with [Config.FillDefaults].
type Config struct {
	Version     int         `json:"version"`
	Hostname    string      `json:"hostname,omitempty"`
	UID         uint32      `json:"uid"`   // owner of the shared directory on the host; 0: unknown
	GID         uint32      `json:"gid"`   // the same for its group
	Share       string      `json:"share"` // tag of the shared directory
	Ports       Ports       `json:"ports"` // as seen on the host
	Credentials Credentials `json:"credentials"`

	// HostNetworks are the addresses of the host and of its routers, and the
	// networks that the host is in, as prefixes of both families. Workspaces
	// reach none of them. The host tells again when they change: [Call].
	HostNetworks []string `json:"hostNetworks,omitempty"`
}

// Credentials are those of the dashboard. Without a hash the guest makes a
// password of its own on its first boot.
type Credentials struct {
	Username     string `json:"username"`
	PasswordHash string `json:"passwordHash,omitempty"` // bcrypt
}

var (
	hostnamePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	sharePattern    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,35}$`) // virtiofs tags end at 36 bytes
	usernamePattern = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,64}$`)
	bcryptPattern   = regexp.MustCompile(`^\$2[aby]\$(0[4-9]|1[0-9]|2[0-4])\$[./A-Za-z0-9]{53}$`)
)

// DecodeConfig reads config.json, fills in the defaults and checks it.
// Unknown keys are ignored, so that a newer host can start an older image;
// everything else is strict. The error is one line that names every fault.
func DecodeConfig(r io.Reader) (Config, error) { return DecodeConfigOver(Config{}, r) }

// DecodeConfigOver is [DecodeConfig], but what config.json does not name stays
// as it is in base.
func DecodeConfigOver(base Config, r io.Reader) (Config, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxConfigSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("read config.json: %w", err)
	}
	if len(b) > MaxConfigSize {
		return Config{}, fmt.Errorf("config.json is larger than %d bytes", MaxConfigSize)
	}
	if !utf8.Valid(b) {
		return Config{}, errors.New("config.json is not UTF-8 text")
	}

	c := base
	c.Version = 0
	if err := json.Unmarshal(b, &c); err != nil {
		return Config{}, fmt.Errorf("config.json is not what this image understands: %w", err)
	}
	if c.Version != ConfigVersion {
		return Config{}, fmt.Errorf("config.json has version %d, this image understands version %d: build the image and start the VM from the same release", c.Version, ConfigVersion)
	}

	c.FillDefaults()
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// FillDefaults sets what is absent, except the user and group ids.
func (c *Config) FillDefaults() {
	setDefault(&c.Version, ConfigVersion)
	setDefault(&c.Hostname, DefaultHostname)
	setDefault(&c.Share, ShareTag)
	c.Ports.FillDefaults()
	setDefault(&c.Credentials.Username, DefaultUsername)
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Validate reports every fault in one line.
func (c Config) Validate() error {
	var faults []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}

	named := func(name string, err error) { check(err == nil, "%s %v", name, err) }
	named("hostname", CheckHostname(c.Hostname))
	check(sharePattern.MatchString(c.Share), "share %.80q is not a mount tag of 1 to 35 letters, digits, dots and dashes", c.Share)
	named("credentials.username", CheckUsername(c.Credentials.Username))
	if hash := c.Credentials.PasswordHash; hash != "" {
		named("credentials.passwordHash", CheckPasswordHash(hash))
	}

	for _, f := range c.Ports.Forwards() {
		check(f.Host > 0 && f.Host <= 65535, "ports.%s %d is not a port from 1 to 65535", f.Name, f.Host)
	}

	check(c.UID != ^uint32(0) && c.GID != ^uint32(0), "uid and gid must be below 4294967295")
	_, err := ParseHostNetworks(c.HostNetworks)
	check(err == nil, "hostNetworks: %v", err)

	if faults != nil {
		return fmt.Errorf("config.json: %s", strings.Join(faults, "; "))
	}
	return nil
}
