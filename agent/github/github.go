// Package github asks the REST API of GitHub, or of a server that speaks the
// same, for repositories. It has no credentials: it sees what everybody sees.
// It keeps no state and imports only the domain.
package github

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// DefaultURL is the public API.
const DefaultURL = "https://api.github.com"

const (
	apiVersion = "2022-11-28" // https://docs.github.com/en/rest/about-the-rest-api/api-versions
	timeout    = 10 * time.Second
	maxAnswer  = 8 << 20 // bytes; a page of 100 repositories is below one
)

// Client is one server's API. Make one with [New].
type Client struct {
	base *url.URL
	http *http.Client
	now  func() time.Time
}

// New makes a client for the API at base, such as [DefaultURL]. now tells the
// time.
func New(base string, now func() time.Time) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the address of the GitHub API, %q, is not an http or https address without credentials", base)
	}
	return &Client{base: u, http: &http.Client{Timeout: timeout}, now: now}, nil
}

// ListRepositories returns an empty page: without credentials there is no
// user whose repositories could be listed.
func (c *Client) ListRepositories(context.Context, agent.RepositoryQuery) (agent.RepositoryPage, error) {
	return agent.RepositoryPage{}, nil
}

// repository is what is used of GitHub's answer.
type repository struct {
	FullName string `json:"full_name"`
	Owner    struct {
		Login     string `json:"login"`
		Type      string `json:"type"`
		AvatarURL string `json:"avatar_url"`
	} `json:"owner"`
	Description   string    `json:"description"`
	Private       bool      `json:"private"`
	DefaultBranch string    `json:"default_branch"`
	UpdatedAt     time.Time `json:"updated_at"`
}

func (r repository) domain() agent.Repository {
	kind := "User"
	if r.Owner.Type == "Organization" {
		kind = "Organization"
	}
	return agent.Repository{
		FullName:      r.FullName,
		Owner:         r.Owner.Login,
		OwnerType:     kind,
		OwnerAvatar:   r.Owner.AvatarURL,
		Description:   r.Description,
		Private:       r.Private,
		DefaultBranch: r.DefaultBranch,
		UpdatedAt:     r.UpdatedAt,
	}
}

// SearchRepositories searches all public repositories.
func (c *Client) SearchRepositories(ctx context.Context, q agent.RepositoryQuery) (agent.RepositoryPage, error) {
	resp, err := c.get(ctx, "search/repositories", url.Values{
		"q":        {q.Text},
		"page":     {strconv.Itoa(q.Page)},
		"per_page": {strconv.Itoa(q.PerPage)},
	})
	if err != nil {
		return agent.RepositoryPage{}, err
	}
	defer resp.Body.Close()

	var found struct {
		Total int          `json:"total_count"`
		Items []repository `json:"items"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&found); err != nil {
		return agent.RepositoryPage{}, unavailable("GitHub's answer cannot be read. Try again later.")
	}

	page := agent.RepositoryPage{Total: found.Total, NextPage: nextPage(resp.Header.Get("Link"))}
	for _, r := range found.Items {
		page.Items = append(page.Items, r.domain())
	}
	return page, nil
}

// get asks for one resource. The caller closes the body of the answer, which
// is a success.
func (c *Client) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask GitHub: %w", err)
	}
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("X-GitHub-Api-Version", apiVersion)
	req.Header.Set("User-Agent", "rockpool-agent")
	resp, err := c.http.Do(req)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("ask GitHub: %w", ctx.Err())
	}
	if err != nil {
		return nil, unavailable("GitHub does not answer. Check the network of the VM, or try again later.")
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	return nil, errors.Join(c.fault(resp), resp.Body.Close())
}

// fault explains an answer that is no success.
func (c *Client) fault(resp *http.Response) error {
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusForbidden:
		return unavailable("GitHub has answered too many requests from this address. Try again " + c.wait(resp.Header) + ".")
	case status == http.StatusUnprocessableEntity:
		return &agent.Error{
			Code:    agent.CodeValidation,
			Message: "GitHub does not understand this search",
			Fields:  []agent.Field{{Path: "q", Message: "is not a search that GitHub understands"}},
		}
	default:
		return unavailable(fmt.Sprintf("GitHub answers with status %d. Try again later.", status))
	}
}

// wait says when a rate limit ends
// (https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api).
func (c *Client) wait(h http.Header) string {
	var left time.Duration
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil {
		left = time.Duration(s) * time.Second
	} else if at, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil {
		left = time.Unix(at, 0).Sub(c.now())
	}
	switch {
	case left <= 0 || left > 24*time.Hour:
		return "later"
	case left < 90*time.Second:
		return fmt.Sprintf("in %d seconds", int(left.Seconds()+0.5))
	default:
		return fmt.Sprintf("in %d minutes", int(left.Minutes()+0.5))
	}
}

func unavailable(message string) error {
	return agent.Errorf(agent.CodeUnavailable, "%s", message)
}

var pageNumber = regexp.MustCompile(`[?&]page=(\d{1,9})(&|$)`)

// nextPage reads a Link header (RFC 8288) as GitHub writes it, and returns the
// number of the page with rel="next", or 0.
func nextPage(link string) int {
	for part := range strings.SplitSeq(link, ",") {
		target, params, ok := strings.Cut(part, ";")
		if !ok || !strings.Contains(params, `rel="next"`) {
			continue
		}
		m := pageNumber.FindStringSubmatch(strings.Trim(strings.TrimSpace(target), "<>"))
		if m == nil {
			return 0
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}
