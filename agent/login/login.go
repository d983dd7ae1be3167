// Package login checks the user name and the password of requests that came
// through Caddy, and slows down who guesses. It keeps in memory who guessed how
// often lately, and what was right last. It imports only the domain and agent/api.
//
// A wrong password costs a slow hash, so guesses are counted for each source: an
// address as Caddy saw it, at one of Caddy's servers, for a page that runs in a
// preview can send wrong passwords there, but not to the dashboard. Who has none
// left is refused without a look at the password, right or wrong, or the refusal
// would tell which. A browser that was
// let in before is told apart by a cookie, so that guesses from the same
// address, which behind the hypervisor's user network is everybody's, do not
// keep its user out.
package login

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// How many wrong passwords a source may try: some at once, then one each while.
const (
	guesses     = 30
	guessPeriod = 5 * time.Second
)

// maxSources bounds how many sources are remembered; beyond, new ones share
// what one may guess.
const maxSources = 4096

// Login lets users in. Username, Hash and Now must be set.
type Login struct {
	Username string
	Hash     func() string // of the password, by bcrypt; "" when there is none yet
	Now      func() time.Time

	// Compare is bcrypt's, unless a test puts another in its place.
	Compare func(hash, password []byte) error

	mu      sync.Mutex
	sources map[string]*rate.Limiter
	key     []byte // of right
	right   []byte // digest of the hash, the name and the password that were right last
	hashing [2]chan struct{}
	once    sync.Once
}

// The hashing of known browsers does not queue behind that of others.
const (
	unknownLane = iota
	knownLane
)

func (l *Login) prepare() {
	l.once.Do(func() {
		l.sources = map[string]*rate.Limiter{}
		l.key = make([]byte, sha256.Size)
		_, _ = rand.Read(l.key) // never fails
		for i := range l.hashing {
			l.hashing[i] = make(chan struct{}, 1)
		}
		if l.Compare == nil {
			l.Compare = bcrypt.CompareHashAndPassword
		}
	})
}

// Enter returns the name of the user whose credentials r has, and takes them
// off r. An error is for the user: [agent.CodeUnauthorized], with which w asks
// for credentials, [agent.CodeTooMany], with which w says when to try again, or
// [agent.CodeUnavailable].
func (l *Login) Enter(w http.ResponseWriter, r *http.Request) (string, error) {
	l.prepare()
	name, password, given := r.BasicAuth()
	r.Header.Del("Authorization")
	hash := l.Hash()
	if hash == "" {
		return "", agent.Errorf(agent.CodeUnavailable, "No password is set yet: journalctl -u rockpool-setup says why")
	}
	if !given {
		return "", unauthorized(w)
	}

	device := r.Header.Get(api.HeaderDevice)
	known := l.knows(hash, device)
	source, lane := source(r), unknownLane
	if known {
		source, lane = "device "+device, knownLane
	}
	source += " at " + r.Header.Get(api.HeaderServer)
	if retry, ok := l.mayTry(source); !ok {
		return "", tooMany(w, retry)
	}

	digest := l.digest(hash, name, password)
	if !l.wasRight(digest) {
		ok, err := l.verify(w, r, lane, source, hash, name, password)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", unauthorized(w)
		}
		l.remember(digest)
	}
	if !known {
		l.introduce(w, hash)
	}
	return name, nil
}

func unauthorized(w http.ResponseWriter) error {
	w.Header().Set("WWW-Authenticate", `Basic realm="Rockpool", charset="UTF-8"`)
	return agent.Errorf(agent.CodeUnauthorized, "A user name and a password are needed")
}

func tooMany(w http.ResponseWriter, retry time.Duration) error {
	seconds := int(math.Ceil(retry.Seconds()))
	w.Header().Set("Retry-After", fmt.Sprint(seconds))
	return agent.Errorf(agent.CodeTooMany, "Too many wrong passwords came from your address. Wait %d seconds, then try again.", seconds)
}

// verify asks bcrypt, one at a time for each lane, and counts a guess. The guess
// is counted before, or many at once would all be free, and forgiven if right.
func (l *Login) verify(w http.ResponseWriter, r *http.Request, lane int, source, hash, name, password string) (bool, error) {
	l.mu.Lock()
	limiter, now := l.limiter(source), l.Now()
	free, retry := limiter.AllowN(now, 1), untilFree(limiter, now)
	l.mu.Unlock()
	if !free { // others guessed since it was asked
		return false, tooMany(w, retry)
	}

	select {
	case l.hashing[lane] <- struct{}{}:
		defer func() { <-l.hashing[lane] }()
	case <-r.Context().Done():
		return false, agent.Errorf(agent.CodeUnavailable, "The request ended before its password was looked at")
	}
	sameName := subtle.ConstantTimeCompare([]byte(name), []byte(l.Username)) == 1
	if l.Compare([]byte(hash), []byte(password)) != nil || !sameName {
		return false, nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sources, source)
	return true, nil
}

// mayTry reports whether a source has a guess left, and when it has one again.
func (l *Login) mayTry(source string) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, now := l.limiter(source), l.Now()
	return untilFree(limiter, now), limiter.TokensAt(now) >= 1
}

// untilFree is how long it takes until there is a guess left, at least a second.
func untilFree(limiter *rate.Limiter, now time.Time) time.Duration {
	return max(time.Second, time.Duration((1-limiter.TokensAt(now))*float64(guessPeriod)))
}

// limiter counts the guesses of a source. l.mu is held.
func (l *Login) limiter(source string) *rate.Limiter {
	if r := l.sources[source]; r != nil {
		return r
	}
	if len(l.sources) >= maxSources {
		now := l.Now()
		for s, r := range l.sources {
			if r.TokensAt(now) >= guesses {
				delete(l.sources, s)
			}
		}
		if len(l.sources) >= maxSources {
			source = "others"
			if r := l.sources[source]; r != nil {
				return r
			}
		}
	}
	r := rate.NewLimiter(rate.Every(guessPeriod), guesses)
	r.AllowN(l.Now(), 0) // counting begins now
	l.sources[source] = r
	return r
}

// digest is a fast hash with a key that this process alone has, so that the
// right password is known again without bcrypt, and nothing of it is kept.
func (l *Login) digest(hash, name, password string) []byte {
	m := hmac.New(sha256.New, l.key)
	fmt.Fprintf(m, "%q %q %q", hash, name, password)
	return m.Sum(nil)
}

func (l *Login) wasRight(digest []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return hmac.Equal(l.right, digest)
}

func (l *Login) remember(digest []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.right = digest
}

// introduce gives a browser that was let in the cookie by which it is known
// again. Its signature is made with the password's hash: it holds until the
// password changes, and nothing is stored.
func (l *Login) introduce(w http.ResponseWriter, hash string) {
	id := rand.Text()
	http.SetCookie(w, &http.Cookie{
		Name: api.DeviceCookie, Value: id + "." + sign(hash, id), Path: "/",
		MaxAge: int((180 * 24 * time.Hour).Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// knows reports whether a device was introduced.
func (l *Login) knows(hash, device string) bool {
	const idLength = 26 // of rand.Text
	if len(device) < idLength+1 || device[idLength] != '.' {
		return false
	}
	return hmac.Equal([]byte(device[idLength+1:]), []byte(sign(hash, device[:idLength])))
}

func sign(hash, id string) string {
	m := hmac.New(sha256.New, []byte("rockpool device "+hash))
	m.Write([]byte(id))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// source is where a request came from, as Caddy saw it: an IPv4 address, or the
// 64 bits of an IPv6 address that one home has.
func source(r *http.Request) string {
	address, err := netip.ParseAddr(r.Header.Get("X-Forwarded-For"))
	if err != nil {
		return "unknown"
	}
	address = address.Unmap().WithZone("")
	if address.Is6() {
		return netip.PrefixFrom(address, 64).Masked().String()
	}
	return address.String()
}
