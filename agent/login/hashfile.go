package login

import (
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// HashFile is a file with the hash of the password, which is read again when it
// changes. What is no hash is refused with a line in the log; the one before
// stays.
type HashFile struct {
	Path string
	Log  *slog.Logger

	mu      sync.Mutex
	hash    string
	changed time.Time
	size    int64
}

// Hash returns the last hash that was one, "" when there was none.
func (f *HashFile) Hash() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := os.Stat(f.Path)
	if err != nil || st.ModTime().Equal(f.changed) && st.Size() == f.size {
		return f.hash
	}
	f.changed, f.size = st.ModTime(), st.Size()

	b, err := os.ReadFile(f.Path)
	hash := strings.TrimSpace(string(b))
	if err == nil {
		_, err = bcrypt.Cost([]byte(hash))
	}
	if err != nil {
		f.Log.Error("the hash of the password is not valid: the one before stays", "file", f.Path, "err", err)
		return f.hash
	}
	f.hash = hash
	return hash
}
