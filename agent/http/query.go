package http

import (
	"net/http"
	"net/url"

	"github.com/rockpool/rootvm/agent"
)

// parseQuery decodes the query, strictly.
func parseQuery(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, agent.Errorf(agent.CodeValidation, "The query of the address does not decode")
	}
	return values, nil
}
