package guest

// How the guest tells its disks apart: by the serial of the device where the
// hypervisor gives one, else by the label of what is on it.
const (
	RootDiskSerial   = "rockpool-root"
	DataDiskSerial   = "rockpool-data"
	ConfigDiskSerial = "rockpool-config"

	RootLabel   = "rockpool-root" // of the root file system
	DataLabel   = "rockpool-data" // of the data disk's file system
	ConfigLabel = "ROCKPOOL"      // of the configuration disk, ISO 9660 or FAT
)

// Files of the configuration disk.
const (
	ConfigFile         = "config.json"     // [Config]
	AuthorizedKeysFile = "authorized_keys" // of [AdminUser], in the format of sshd(8)
)

// Tags of the directory that the host shares.
const (
	// ShareTag is its virtiofs or 9p tag, and the name of its folder in Tart's
	// automount share.
	ShareTag = "rockpool"
	// TartShareTag is the tag under which macOS's Virtualization framework, and
	// so Tart, offers all shared directories at once
	// (VZVirtioFileSystemDeviceConfiguration.macOSGuestAutomountTag).
	TartShareTag = "com.apple.virtio-fs.automount"
)

// Accounts in the guest.
const (
	AdminUser   = "admin"    // for SSH, with sudo
	AdminID     = 1000       // its user and group id, unless the shared directory's owner has another
	ServiceUser = "rockpool" // runs the agent, Caddy and the containers
	ServiceID   = 990        // its user and group id

	DefaultHostname = "rockpool-root"
	DefaultUsername = "admin" // of the dashboard
)

// AdminIDFor is the user (or group) id that [AdminUser] has, given that of the
// shared directory's owner (or group) on the host: a person's is taken over, so
// that files made on either side belong to the same person.
func AdminIDFor(owner int) int {
	if owner < AdminID {
		return AdminID
	}
	return owner
}

// Paths in the guest.
const (
	ShareDir     = "/mnt/rockpool"       // the directory that the host shares
	StateDir     = "/opt/rockpool"       // database, logs, password: bind mount of DataDir/state
	DataDir      = "/var/lib/rockpool"   // where the data disk is mounted
	QueueDir     = DataDir + "/queue"    // the user's ElasticMQ, if any
	AgentRunDir  = "/run/rockpool"       // the agent's socket
	SetupRunDir  = "/run/rockpool-setup" // results of this boot's set-up
	ContainerDir = "/home/rockpool/.local/share/containers"

	AgentProgram     = "/usr/local/bin/rockpool-agent"
	AgentSocket      = AgentRunDir + "/agent.sock"
	ChannelSocket    = AgentRunDir + "/channel.sock" // the channel, from who hears the host on vsock
	DatabaseFile     = StateDir + "/rockpool.db"
	PasswordFile     = StateDir + "/dashboard-password"     // made on the first boot unless a hash was given
	PasswordHashFile = SetupRunDir + "/password-hash"       // of the dashboard's password, for the agent
	ConsoleFile      = SetupRunDir + "/console"             // what the console says of how to get in, for root alone
	SlotsDir         = "/run/rockpool-slots"                // ID-mapped views of the workspace image, one a slot
	SlotsSocket      = "/run/rockpool-slots.sock"           // asks the root helper for one
	RelaySocket      = "/run/rockpool-relay.sock"           // asks the relay to lead into a workspace
	PreviewsDir      = AgentRunDir + "/previews"            // sockets of previews, for Caddy
	NetworksSocket   = "/run/rockpool-networks.sock"        // tells the root helper the host's networks
	ClockSocket      = "/run/rockpool-clock.sock"           // tells the root helper the host's clock
	ReplaySocket     = "/run/rockpool-replay.sock"          // raises the events of the host's files in ShareDir
	NetworksFile     = SetupRunDir + "/host-networks"       // what it was told last
	FirewallFile     = "/etc/rockpool/workspaces.nft"       // what workspaces may reach; may be edited
	FirewallSource   = "/usr/share/rockpool/workspaces.nft" // the same as the image has it
	ExceptionsDir    = DataDir + "/network"                 // *.nft: exceptions of the user's own
	WorkspaceDir     = "/usr/share/rockpool/workspace"
	WorkspaceRoot    = WorkspaceDir + "/rootfs" // root file system of the workspace image
)

// Units of the guest's systemd that the host names.
const (
	ShareUnit = "rockpool-share.service" // mounts ShareDir
	AgentUnit = "rockpool-agent.service"
	SetupUnit = "rockpool-setup.service"
	CaddyUnit = "rockpool-caddy.service"
)
