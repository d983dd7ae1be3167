package agent

import "time"

// Preference is a file of the user's that follows them into every workspace.
// Its content is kept byte for byte. People and the API call it a setting, for
// the first of them are the editor's.
type Preference struct {
	Name      string
	Blob      string
	UpdatedAt time.Time
}

// The names of the preferences.
const (
	PreferenceSettings    = "CodeServerSettings"
	PreferenceKeybindings = "CodeServerKeybindings"
	PreferenceGit         = "GitConfig"
)

// PreferenceNames lists them in the order in which people see them.
func PreferenceNames() []string {
	return []string{PreferenceSettings, PreferenceKeybindings, PreferenceGit}
}

// PreferencePath is the preference's file, relative to the home directory of
// a workspace, and "" for a name that is none.
func PreferencePath(name string) string {
	switch name {
	case PreferenceSettings:
		return ".local/share/code-server/User/settings.json"
	case PreferenceKeybindings:
		return ".local/share/code-server/User/keybindings.json"
	case PreferenceGit:
		return ".gitconfig"
	}
	return ""
}
