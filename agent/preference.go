package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Preference is a file of the user's that follows them into every workspace.
// Its content is kept byte for byte. People and the API call it a setting, for
// the first of them are the editor's.
type Preference struct {
	Name      string
	Blob      string
	UpdatedAt time.Time
	Seen      bool // a person agreed to what in it can run a program
}

// The names of the preferences.
const (
	PreferenceSettings    = "CodeServerSettings"
	PreferenceKeybindings = "CodeServerKeybindings"
	PreferenceGit         = "GitConfig"
)

// IDEConfiguration is the name under which a workspace has a note of its IDE's
// configuration, which is no preference: config.yaml could not be written.
const IDEConfiguration = "IDEConfiguration"

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

// File is the content of a file, or that there is none: the zero File.
type File struct {
	Exists  bool
	Content string
}

// FileOf is a file that exists.
func FileOf(content string) File { return File{Exists: true, Content: content} }

// PreferenceCopy is what is known of a preference's file in one workspace.
type PreferenceCopy struct {
	WorkspaceID string
	Name        string

	// Base is the content that was last pushed to the workspace or taken from
	// it, so what the stored preference and the file had in common last. It
	// does not exist when neither ever happened.
	Base File

	PreferenceNote
}

// PreferenceNote is what a person should look at in a workspace's copy of a
// preference.
type PreferenceNote struct {
	Kind    PreferenceNoteKind
	Message string // a sentence for the user
	Found   File   // the workspace's file when the note was made
	NotedAt time.Time
}

// PreferenceNoteKind says what a note is about.
type PreferenceNoteKind string

// The kinds of notes.
const (
	NoteNone     PreferenceNoteKind = ""
	NoteConflict PreferenceNoteKind = "conflict" // the file and the stored preference were both changed
	NoteUnseen   PreferenceNoteKind = "unseen"   // the file was not stored: it can run a program, and nobody has seen that
	NoteFault    PreferenceNoteKind = "fault"    // the file could not be read or written
)

// PreferenceDifference is a stored preference beside the file of one
// workspace.
type PreferenceDifference struct {
	WorkspaceID string
	Name        string
	Stored      File
	Found       File
	Kind        PreferenceNoteKind // why a person should look at it
	Message     string             // a sentence for the user, "" without a note

	// Programs lists what in Found can run a program and was not agreed to when
	// Stored was stored.
	Programs []string
}

// Digest names exactly what the difference shows: who confirms it confirms
// nothing else.
func (d PreferenceDifference) Digest() string {
	h := sha256.New()
	for _, f := range []File{FileOf(d.WorkspaceID), FileOf(d.Name), d.Stored, d.Found} {
		length := int64(-1)
		if f.Exists {
			length = int64(len(f.Content))
		}
		_ = binary.Write(h, binary.BigEndian, length) // a hash takes everything
		_, _ = h.Write([]byte(f.Content))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// PreferenceChoice is how a person ends a difference.
type PreferenceChoice string

// The choices.
const (
	ChooseFound  PreferenceChoice = "found"  // the workspace's file is stored
	ChooseStored PreferenceChoice = "stored" // the stored preference replaces the workspace's file
)

// PreferenceReview knows what in a preference can run a program.
type PreferenceReview interface {
	// Programs lists what in the content can run a program or is not known to
	// be harmless, a line for each: the setting and its value. Content that
	// cannot be read is not known to be harmless; its line names the content,
	// so that no other content has the same. Harmless content has none.
	Programs(name, content string) []string
}
