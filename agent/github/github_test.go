package github_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/github"
)

func at(second int64) func() time.Time { return func() time.Time { return time.Unix(second, 0) } }

const answer = `{"total_count":42,"incomplete_results":false,"items":[
{"id":1,"full_name":"golang/go","owner":{"login":"golang","type":"Organization","avatar_url":"https://a.example/1"},"description":"The Go language","private":false,"default_branch":"master","updated_at":"2026-01-02T03:04:05Z"},
{"id":2,"full_name":"me/x","owner":{"login":"me","type":"Bot"},"description":null,"private":false,"default_branch":"main","updated_at":"2026-01-02T03:04:05Z"}]}`

func TestClient_SearchRepositories(t *testing.T) {
	var got *http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Link", `<https://api.github.com/search/repositories?q=go&page=3>; rel="next", <https://api.github.com/search/repositories?q=go&page=9>; rel="last"`)
		_, _ = io.WriteString(w, answer)
	}))
	defer s.Close()
	c, err := github.New(s.URL+"/api/v3/", at(0))
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.SearchRepositories(t.Context(), agent.RepositoryQuery{Text: "go & rust", Page: 2, PerPage: 30})
	if err != nil {
		t.Fatal(err)
	}
	if q := got.URL.Query(); got.URL.Path != "/api/v3/search/repositories" || q.Get("q") != "go & rust" || q.Get("page") != "2" || q.Get("per_page") != "30" {
		t.Errorf("asked for %s", got.URL)
	}
	if got.Header.Get("Authorization") != "" || got.Header.Get("X-GitHub-Api-Version") == "" {
		t.Errorf("header: %v", got.Header)
	}
	want := agent.Repository{
		FullName: "golang/go", Owner: "golang", OwnerType: "Organization", OwnerAvatar: "https://a.example/1",
		Description: "The Go language", DefaultBranch: "master", UpdatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	if page.Total != 42 || page.NextPage != 3 || len(page.Items) != 2 || page.Items[0] != want || page.Items[1].OwnerType != "User" {
		t.Errorf("page: %+v", page)
	}
}

func TestClient_SearchRepositories_faults(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		header [2]string
		body   string
		code   string
		text   string
	}{
		"rate limit, reset":  {403, [2]string{"X-RateLimit-Reset", "1300"}, "{}", agent.CodeUnavailable, "Try again in 5 minutes."},
		"rate limit, past":   {403, [2]string{"X-RateLimit-Reset", "900"}, "{}", agent.CodeUnavailable, "Try again later."},
		"rate limit, retry":  {429, [2]string{"Retry-After", "30"}, "{}", agent.CodeUnavailable, "Try again in 30 seconds."},
		"not understood":     {422, [2]string{}, `{"message":"Validation Failed"}`, agent.CodeValidation, "does not understand this search"},
		"down":               {502, [2]string{}, "<html>", agent.CodeUnavailable, "status 502"},
		"not JSON":           {200, [2]string{}, "<html>", agent.CodeUnavailable, "cannot be read"},
		"wrong kind of JSON": {200, [2]string{}, `{"items":"none"}`, agent.CodeUnavailable, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.header[0] != "" {
					w.Header().Set(tt.header[0], tt.header[1])
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer s.Close()
			c, err := github.New(s.URL, at(1000))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.SearchRepositories(t.Context(), agent.RepositoryQuery{Text: "x"})
			if agent.ErrorCode(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: %v", agent.ErrorCode(err), err)
			}
		})
	}
}

func TestClient_SearchRepositories_noAnswer(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	c, err := github.New(s.URL, at(0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.SearchRepositories(ctx, agent.RepositoryQuery{Text: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	s.Close()
	if _, err := c.SearchRepositories(t.Context(), agent.RepositoryQuery{Text: "x"}); agent.ErrorCode(err) != agent.CodeUnavailable || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("nobody there: %v", err)
	}
	if page, err := c.ListRepositories(t.Context(), agent.RepositoryQuery{}); err != nil || len(page.Items) != 0 || page.NextPage != 0 {
		t.Errorf("without credentials: %+v, %v", page, err)
	}
}

func TestNew_faults(t *testing.T) {
	for _, base := range []string{"", "api.github.com", "ftp://x", "https://me:pw@host", "http://[::"} {
		if _, err := github.New(base, at(0)); err == nil {
			t.Errorf("%q is accepted", base)
		}
	}
}
