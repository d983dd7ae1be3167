package controlplane

import (
	"strings"
	"sync"
)

// secrets are the tokens of clones that are not done, by workspace. They are
// nowhere else.
type secrets struct {
	mu     sync.Mutex
	tokens map[string]string
}

func (s *secrets) put(id, token string) {
	if token == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens == nil {
		s.tokens = map[string]string{}
	}
	s.tokens[id] = token
}

func (s *secrets) get(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[id]
}

func (s *secrets) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, id)
}

// scrub removes the workspace's token from a text.
func (s *secrets) scrub(id, text string) string {
	if token := s.get(id); token != "" {
		return strings.ReplaceAll(text, token, "***")
	}
	return text
}
