package http_test

import (
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/agent/http"
)

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Fatalf("the document's version is %s", doc.OpenAPI)
	}
	return doc
}

// TestOpenAPI_routes: document and handlers have the same paths, methods and
// query parameters.
func TestOpenAPI_routes(t *testing.T) {
	doc := document(t)
	paths := doc.Paths.Map()
	for _, rt := range http.Routes() {
		if !strings.HasPrefix(rt.Pattern, "/api") {
			continue
		}
		item := paths[rt.Pattern]
		if item == nil {
			t.Errorf("%s is not in the document", rt.Pattern)
			continue
		}
		delete(paths, rt.Pattern)
		var methods, query []string
		for method, op := range item.Operations() {
			methods = append(methods, method)
			for _, p := range op.Parameters {
				if p.Value.In == "query" && !slices.Contains(query, p.Value.Name) {
					query = append(query, p.Value.Name)
				}
			}
		}
		for _, l := range [][]string{methods, query, rt.Methods, rt.Query} {
			slices.Sort(l)
		}
		if !slices.Equal(methods, rt.Methods) || !slices.Equal(query, rt.Query) {
			t.Errorf("%s: document %v %v, handler %v %v", rt.Pattern, methods, query, rt.Methods, rt.Query)
		}
	}
	for path := range paths {
		t.Errorf("%s is only in the document", path)
	}
}

// call is one request of the test, and what is expected of it. A body that
// begins with "{" or "[" is JSON unless kind says otherwise.
type call struct {
	name           string
	method, target string
	body, kind     string
	header         [2]string
	status         int
	text           string // in the answer
	deviant        bool   // the document refuses the request as well; it cannot say that unknown parameters are a fault
}

const jsonKind = "application/json"

// calls drive every route, good and bad. Workspaces 1 to 5 are creating,
// running, stopping, stopped and in error.
func calls() []call {
	w := func(n int, rest string) string { return "/api/workspaces/" + id(n) + rest }
	r := func(rest string) string { return "/api/runtime/" + id(2) + rest }
	gone := "/api/workspaces/" + ids.missing
	keys := difference(agent.PreferenceKeybindings, id(2))
	long := strings.Repeat("a", 64)
	huge := `{"name":"abc","image":"","x":"` + strings.Repeat("a", http.MaxBody) + `"}`
	return []call{
		{name: "health", method: "GET", target: "/api/health", status: 200, text: "OK"},
		{name: "ping", method: "GET", target: "/api/ping", status: 200},
		{name: "document", method: "GET", target: "/api/openapi.json", status: 200, text: `"openapi": "3.1.0"`},
		{name: "metrics", method: "GET", target: "/api/metrics", status: 200, text: "up 1"},
		{name: "me", method: "GET", target: "/api/auth/me", status: 200},
		{name: "logout", method: "POST", target: "/api/auth/logout", status: 200},
		{name: "logout, foreign", method: "POST", target: "/api/auth/logout", header: [2]string{"Origin", "http://evil.example"}, status: 403},
		{name: "logout by link", method: "GET", target: "/api/auth/logout", status: 200},
		{name: "login", method: "GET", target: "/api/auth/github?return_to=/app", status: 302},
		{name: "events, bad id", method: "GET", target: "/api/events", header: [2]string{"Last-Event-ID", "x"}, status: 400, deviant: true},

		{name: "list", method: "GET", target: "/api/workspaces", status: 200, text: `"description":null`},
		{name: "list, page", method: "GET", target: "/api/workspaces?limit=2", status: 200, text: `"nextCursor":"`},
		{name: "list, clamped", method: "GET", target: "/api/workspaces?limit=0", status: 200, text: `"nextCursor":"`},
		{name: "list, all", method: "GET", target: "/api/workspaces?limit=1000&cursor=", status: 200},
		{name: "list, no number", method: "GET", target: "/api/workspaces?limit=many", status: 400, text: "limit must be a whole number", deviant: true},
		{name: "list, bad cursor", method: "GET", target: "/api/workspaces?cursor=x", status: 400, text: "The cursor is not one that this list gave out"},
		{name: "list, unknown parameter", method: "GET", target: "/api/workspaces?x=1", status: 400, text: `Unknown query parameter \"x\"`},
		{name: "list, twice", method: "GET", target: "/api/workspaces?limit=1&limit=2", status: 400, text: "more than once"},

		{name: "create", method: "POST", target: "/api/workspaces", body: `{"name":"new-1","image":"","description":null,"extra":{"a":[1]}}`, status: 201, text: `"status":"creating"`},
		{name: "create, full", method: "POST", target: "/api/workspaces", body: `{"name":"new-2","image":"rockpool-workspace","description":"d","repositoryId":"me/x","autoSyncPrefs":true,"token":"s3cr3t"}`, kind: "application/json; charset=UTF-8", status: 201, text: `"repositoryId":"me/x"`},
		{name: "create, taken", method: "POST", target: "/api/workspaces", body: `{"name":"ws-1","image":""}`, status: 409, text: `Workspace \"ws-1\" already exists`},
		{name: "create, no name", method: "POST", target: "/api/workspaces", body: `{"image":""}`, status: 400, text: `{"path":"name","message":"is required"}`, deviant: true},
		{name: "create, no image", method: "POST", target: "/api/workspaces", body: `{"name":"abc"}`, status: 400, text: `{"path":"image","message":"is required"}`, deviant: true},
		{name: "create, other case", method: "POST", target: "/api/workspaces", body: `{"Name":"abc","image":""}`, status: 400, text: `"path":"name"`, deviant: true},
		{name: "create, short", method: "POST", target: "/api/workspaces", body: `{"name":"ab","image":""}`, status: 400, text: `"path":"name"`, deviant: true},
		{name: "create, long", method: "POST", target: "/api/workspaces", body: `{"name":"` + long + `","image":""}`, status: 400, text: `"path":"name"`, deviant: true},
		{name: "create, capitals", method: "POST", target: "/api/workspaces", body: `{"name":"ABC","image":""}`, status: 400, text: `"path":"name"`, deviant: true},
		{name: "create, wrong kinds", method: "POST", target: "/api/workspaces", body: `{"name":1,"image":[],"description":{},"autoSyncPrefs":"yes"}`, status: 400, text: `{"path":"autoSyncPrefs","message":"must be true or false"},{"path":"description","message":"must be a string"},{"path":"image"`, deviant: true},
		{name: "create, read-only", method: "POST", target: "/api/workspaces", body: `{"name":"abc","image":"","status":"running","id":null}`, status: 400, text: `{"path":"id","message":"is read-only"},{"path":"status","message":"is read-only"}`, deviant: true},
		{name: "create, secret address", method: "POST", target: "/api/workspaces", body: `{"name":"abc","image":"","repositoryId":"https://me:pw@x.example/y"}`, status: 400, text: "without credentials"},
		{name: "create, not JSON", method: "POST", target: "/api/workspaces", body: `{"name":`, status: 400, text: "one JSON object", deviant: true},
		{name: "create, more", method: "POST", target: "/api/workspaces", body: `{"name":"abc","image":""}{}`, status: 400, text: "one JSON object"},
		{name: "create, array", method: "POST", target: "/api/workspaces", body: `[]`, status: 400, text: "one JSON object", deviant: true},
		{name: "create, null", method: "POST", target: "/api/workspaces", body: `null`, kind: jsonKind, status: 400, text: "one JSON object", deviant: true},
		{name: "create, empty", method: "POST", target: "/api/workspaces", kind: jsonKind, status: 400, text: "one JSON object", deviant: true},
		{name: "create, deep", method: "POST", target: "/api/workspaces", body: `{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, status: 400, text: "nests deeper", deviant: true},
		{name: "create, not UTF-8", method: "POST", target: "/api/workspaces", body: "{\"name\":\"abc\",\"image\":\"\",\"description\":\"\xff\"}", status: 400, text: "not UTF-8"},
		{name: "create, form", method: "POST", target: "/api/workspaces", body: "name=abc", kind: "application/x-www-form-urlencoded", status: 415, deviant: true},
		{name: "create, no type", method: "POST", target: "/api/workspaces", body: ` {"name":"abc","image":""}`, status: 415, deviant: true},
		{name: "create, other charset", method: "POST", target: "/api/workspaces", body: `{"name":"abc","image":""}`, kind: "application/json; charset=latin1", status: 415},
		{name: "create, huge", method: "POST", target: "/api/workspaces", body: huge, status: 413},
		{name: "create, foreign", method: "POST", target: "/api/workspaces", body: `{"name":"abc","image":""}`, header: [2]string{"Sec-Fetch-Site", "same-site"}, status: 403},

		{name: "one", method: "GET", target: w(2, ""), status: 200, text: `"vmIp":"127.0.0.1:20001","containerIp":"127.0.0.1:20001"`},
		{name: "one, error", method: "GET", target: w(5, ""), status: 200, text: `"errorMessage":"The image is missing."`},
		{name: "one, gone", method: "GET", target: gone, status: 404, text: `Workspace \"` + ids.missing + `\" not found`},
		{name: "one, no id", method: "GET", target: "/api/workspaces/Nope", status: 404, text: `Workspace \"Nope\" not found`},
		{name: "disk", method: "GET", target: "/api/disk", status: 200, text: `"orphans":[{"id":"` + id(9) + `","name":null,"used":`},
		{name: "image", method: "GET", target: w(2, "/image"), status: 200, text: `"packages":["postgresql"],"packagesUnknown":false`},
		{name: "image, gone", method: "GET", target: gone + "/image", status: 404},
		{name: "move on", method: "POST", target: w(5, "/image"), body: `{"digest":"` + newest + `"}`, status: 200, text: `"status":"creating"`},
		{name: "move on, another", method: "POST", target: w(4, "/image"), body: `{"digest":"sha256:x"}`, status: 409, text: "There is another image"},
		{name: "move on, nowhere", method: "POST", target: w(4, "/image"), body: `{}`, status: 400, text: `{"path":"digest","message":"is required"}`, deviant: true},
		{name: "start", method: "POST", target: w(4, "/start"), body: "anything", kind: "text/plain", status: 200, text: `"status":"creating"`},
		{name: "start, running", method: "POST", target: w(2, "/start"), status: 409, text: `Cannot transition from \"running\" to \"creating\"`},
		{name: "start, gone", method: "POST", target: gone + "/start", status: 404},
		{name: "stop, stopped", method: "POST", target: w(3, "/stop"), status: 409},
		{name: "stop, gone", method: "POST", target: gone + "/stop", status: 404},
		{name: "steps", method: "GET", target: w(1, "/steps"), status: 200, text: `"endedAt":null`},
		{name: "steps, gone", method: "GET", target: gone + "/steps", status: 404},
		{name: "usage", method: "GET", target: w(2, "/usage"), status: 200, text: `"cpu":0.5`},
		{name: "usage, stopped", method: "GET", target: w(3, "/usage"), status: 409},
		{name: "limits", method: "GET", target: w(2, "/limits"), status: 200, text: `"memoryBytes":0,"diskBytes":0,"memory":{"limit":4294967296,"default":4294967296,"min":268435456,"max":6442450944},"disk":{"limit":17179869184,`},
		{name: "limits, gone", method: "GET", target: gone + "/limits", status: 404},
		{name: "set limits", method: "PUT", target: w(3, "/limits"), body: `{"memoryBytes":6442450944,"diskBytes":42949672960}`, status: 200, text: `"memory":{"limit":6442450944,`},
		{name: "set limits, defaults", method: "PUT", target: w(3, "/limits"), body: `{"memoryBytes":null}`, status: 200, text: `"memory":{"limit":4294967296,`},
		{name: "set limits, little", method: "PUT", target: w(3, "/limits"), body: `{"memoryBytes":1,"diskBytes":1}`, status: 400, text: `"path":"diskBytes","message":"must be 0, for the default, or from 1.0 GiB to 64.0 GiB, which is the size of the disk for workspaces"`},
		{name: "set limits, much", method: "PUT", target: w(3, "/limits"), body: `{"memoryBytes":6442450945}`, status: 400, text: `memoryBytes must be 0, for the default, or from 256 MiB to 6.0 GiB, which is what the VM has for workspaces`},
		{name: "set limits, negative", method: "PUT", target: w(3, "/limits"), body: `{"memoryBytes":-1}`, status: 400, text: `"path":"memoryBytes"`, deviant: true},
		{name: "set limits, text", method: "PUT", target: w(3, "/limits"), body: `{"memoryBytes":"6G"}`, status: 400, text: `memoryBytes must be a whole number`, deviant: true},
		{name: "set limits, gone", method: "PUT", target: gone + "/limits", body: `{}`, status: 404},
		{name: "set limits, foreign", method: "PUT", target: w(3, "/limits"), body: `{}`, header: [2]string{"Origin", "http://evil.example"}, status: 403},
		{name: "usage, gone", method: "GET", target: gone + "/usage", status: 404},
		{name: "logs", method: "GET", target: w(2, "/logs?tail=7"), status: 200, text: "tail 7 follow false"},
		{name: "logs, default", method: "GET", target: w(2, "/logs?follow=true"), status: 200, text: "tail 200 follow true"},
		{name: "logs, steps", method: "GET", target: w(2, "/logs?source=steps&tail=1"), status: 200, text: "create Starting the container\n"},
		{name: "logs, gone", method: "GET", target: gone + "/logs", status: 404},
		{name: "logs, negative", method: "GET", target: w(2, "/logs?tail=-1"), status: 400, deviant: true},
		{name: "logs, no boolean", method: "GET", target: w(2, "/logs?follow=yes"), status: 400, deviant: true},
		{name: "logs, no source", method: "GET", target: w(2, "/logs?source=x"), status: 400, deviant: true},

		{name: "add port", method: "POST", target: w(2, "/ports"), body: `{"port":3000,"label":"web","x":1}`, status: 201, text: `"label":"web"`},
		{name: "add port, again", method: "POST", target: w(2, "/ports"), body: `{"port":3000}`, status: 409, text: "Port 3000 is already registered for this workspace"},
		{name: "add port, stopped", method: "POST", target: w(3, "/ports"), body: `{"port":3000}`, status: 409, text: `Ports can only be managed when workspace is running (current: \"stopping\")`},
		{name: "add port, low", method: "POST", target: w(2, "/ports"), body: `{"port":80}`, status: 400, deviant: true},
		{name: "add port, text", method: "POST", target: w(2, "/ports"), body: `{"port":"3000"}`, status: 400, text: "must be a whole number", deviant: true},
		{name: "add port, fraction", method: "POST", target: w(2, "/ports"), body: `{"port":3000.5}`, status: 400, deviant: true},
		{name: "add port, read-only", method: "POST", target: w(2, "/ports"), body: `{"port":3001,"workspaceId":"x","createdAt":"x"}`, status: 400, deviant: true},
		{name: "add port, gone", method: "POST", target: gone + "/ports", body: `{"port":3000}`, status: 404},
		{name: "add port, form", method: "POST", target: w(2, "/ports"), body: "port=1", kind: "text/plain", status: 415, deviant: true},
		{name: "ports", method: "GET", target: w(2, "/ports"), status: 200, text: `"port":3000`},
		{name: "ports, gone", method: "GET", target: gone + "/ports", status: 404},
		{name: "listening", method: "GET", target: w(2, "/listening"), status: 200, text: `{"port":5173,"program":"node","addresses":["::1"]},{"port":5432,"program":null,"addresses":[]}`},
		{name: "listening, stopped", method: "GET", target: w(3, "/listening"), status: 409, text: `is not running (current: \"stopping\")`},
		{name: "listening, gone", method: "GET", target: gone + "/listening", status: 404},
		{name: "listening, query", method: "GET", target: w(2, "/listening?x=1"), status: 400},
		{name: "remove port", method: "DELETE", target: w(2, "/ports/3000"), status: 204},
		{name: "remove port, gone", method: "DELETE", target: w(2, "/ports/3000"), status: 404, text: "Port 3000"},
		{name: "remove port, text", method: "DELETE", target: w(2, "/ports/web"), status: 400, deviant: true},

		{name: "settings, none", method: "GET", target: "/api/settings", status: 200, text: "[]"},
		{name: "setting, none", method: "GET", target: "/api/settings/GitConfig", status: 404},
		{name: "save", method: "PUT", target: "/api/settings/GitConfig?workspaceId=" + id(2), status: 200, text: `"blob":"{\"a\":\t1}\n"`},
		{name: "save, stopped", method: "PUT", target: "/api/settings/GitConfig?workspaceId=" + id(3), status: 409},
		{name: "save, gone", method: "PUT", target: "/api/settings/GitConfig?workspaceId=" + ids.missing, status: 404},
		{name: "save, no id", method: "PUT", target: "/api/settings/GitConfig?workspaceId=x", status: 404},
		{name: "save, none named", method: "PUT", target: "/api/settings/GitConfig", status: 400, text: "workspaceId is required", deviant: true},
		{name: "save, unknown", method: "PUT", target: "/api/settings/Bashrc?workspaceId=" + id(2), status: 400, deviant: true},
		{name: "setting", method: "GET", target: "/api/settings/GitConfig", status: 200, text: `"name":"GitConfig"`},
		{name: "setting, parameter", method: "GET", target: "/api/settings/GitConfig?workspaceId=x", status: 400},
		{name: "settings", method: "GET", target: "/api/settings", status: 200, text: `"name":"GitConfig"`},
		{name: "save, programs", method: "PUT", target: "/api/settings/CodeServerKeybindings?workspaceId=" + id(2), status: 409, text: `"difference":{"workspaceId":"` + id(2) + `","name":"CodeServerKeybindings","stored":null,"found":"[7]","kind":"unseen"`},
		{name: "save, other digest", method: "PUT", target: "/api/settings/CodeServerKeybindings?confirm=x&workspaceId=" + id(2), status: 409, text: `"digest":"` + keys.Digest() + `"`},
		{name: "save, confirmed", method: "PUT", target: "/api/settings/CodeServerKeybindings?workspaceId=" + id(2) + "&confirm=" + keys.Digest(), status: 200, text: `"blob":"[7]"`},
		{name: "remove setting", method: "DELETE", target: "/api/settings/CodeServerKeybindings", status: 204},
		{name: "remove setting, gone", method: "DELETE", target: "/api/settings/CodeServerKeybindings", status: 404},
		{name: "remove setting, unknown", method: "DELETE", target: "/api/settings/Bashrc", status: 400, deviant: true},
		{name: "remove setting, parameter", method: "DELETE", target: "/api/settings/GitConfig?confirm=x", status: 400},
		{name: "setting notes", method: "GET", target: "/api/settings-notes", status: 200, text: `"kind":"fault"`},
		{name: "setting notes, one", method: "GET", target: "/api/settings-notes?workspaceId=" + id(2), status: 200, text: `"name":"IDEConfiguration"`},
		{name: "setting notes, gone", method: "GET", target: "/api/settings-notes?workspaceId=" + ids.missing, status: 404},
		{name: "setting notes, no id", method: "GET", target: "/api/settings-notes?workspaceId=x", status: 404},
		{name: "difference", method: "GET", target: w(2, "/settings/CodeServerKeybindings"), status: 200, text: `"programs":["binding = 7"],"digest":"` + keys.Digest() + `"`},
		{name: "difference, stopped", method: "GET", target: w(3, "/settings/GitConfig"), status: 409},
		{name: "difference, gone", method: "GET", target: gone + "/settings/GitConfig", status: 404},
		{name: "difference, unknown", method: "GET", target: w(2, "/settings/Bashrc"), status: 400, deviant: true},
		{name: "resolve", method: "POST", target: w(2, "/settings/CodeServerKeybindings"), body: `{"choice":"found","confirm":"` + keys.Digest() + `"}`, status: 204},
		{name: "resolve, changed", method: "POST", target: w(2, "/settings/CodeServerKeybindings"), body: `{"choice":"found","confirm":"x"}`, status: 409, text: `"difference":{`},
		{name: "resolve, not stored", method: "POST", target: w(2, "/settings/CodeServerKeybindings"), body: `{"choice":"stored","confirm":"x"}`, status: 404},
		{name: "resolve, no digest", method: "POST", target: w(2, "/settings/GitConfig"), body: `{"choice":"found"}`, status: 400, text: `"path":"confirm"`, deviant: true},
		{name: "resolve, empty digest", method: "POST", target: w(2, "/settings/GitConfig"), body: `{"choice":"found","confirm":""}`, status: 400, text: `"path":"confirm"`, deviant: true},

		{name: "repositories", method: "GET", target: "/api/github/repos?sort=updated&page=1&per_page=500", status: 200, text: `{"items":[],"next_page":null}`},
		{name: "repositories, order", method: "GET", target: "/api/github/repos?sort=size", status: 400, deviant: true},
		{name: "search", method: "GET", target: "/api/github/repos/search?q=go+lang&page=2", status: 200, text: `"total_count":1,"next_page":3`},
		{name: "search, nothing", method: "GET", target: "/api/github/repos/search?q=", status: 400, text: "q is required", deviant: true},
		{name: "search, long", method: "GET", target: "/api/github/repos/search?q=" + strings.Repeat("a", 257), status: 400, deviant: true},

		{name: "rt create", method: "POST", target: r("/create"), body: `{"name":"ws-2","port":20001,"slot":0}`, status: 204},
		{name: "rt create, last slot", method: "POST", target: r("/create"), body: fmt.Sprintf(`{"name":"ws-2","port":20001,"slot":%d}`, agent.ContainerSlots-1), status: 204},
		{name: "rt create, no slot", method: "POST", target: r("/create"), body: fmt.Sprintf(`{"name":"ws-2","port":20001,"slot":%d}`, agent.ContainerSlots), status: 400, text: "must be a number from 0 to 255", deviant: true},
		{name: "rt create, faults", method: "POST", target: r("/create"), body: `{"name":"x","port":80,"slot":-1}`, status: 400, text: `"path":"slot"`, deviant: true},
		{name: "rt create, no id", method: "POST", target: "/api/runtime/x/create", body: `{"name":"ws-2","port":20001,"slot":0}`, status: 404},
		{name: "rt start", method: "POST", target: r("/start"), status: 204},
		{name: "rt start, gone", method: "POST", target: "/api/runtime/" + ids.missing + "/start", status: 404},
		{name: "rt stop", method: "POST", target: r("/stop"), body: `{"graceSeconds":1.5}`, status: 204},
		{name: "rt stop, for ever", method: "POST", target: r("/stop"), body: `{"graceSeconds":1e300}`, status: 400, deviant: true},
		{name: "rt remove", method: "POST", target: r("/remove"), status: 204},
		{name: "rt status", method: "GET", target: r("/status"), status: 200, text: `{"status":"running"}`},
		{name: "rt status, gone", method: "GET", target: "/api/runtime/" + ids.missing + "/status", status: 200, text: `{"status":"not_found"}`},
		{name: "rt address", method: "GET", target: r("/address"), status: 200, text: `{"address":"127.0.0.1:20001"}`},
		{name: "rt address, gone", method: "GET", target: "/api/runtime/" + ids.missing + "/address", status: 404},
		{name: "rt configure", method: "POST", target: r("/configure"), body: `{"name":"ws-2","folder":"/home/admin/x"}`, status: 204},
		{name: "rt configure, relative", method: "POST", target: r("/configure"), body: `{"name":"ws-2","folder":"x"}`, status: 400},
		{name: "rt clone", method: "POST", target: r("/clone"), body: `{"url":"https://x.example/y","folder":"/home/admin/y","token":"t"}`, status: 204},
		{name: "rt clone, file", method: "POST", target: r("/clone"), body: `{"url":"file:///etc","folder":"/home/admin/y"}`, status: 400, deviant: true},
		{name: "rt write", method: "PUT", target: r("/writeFile?path=a%20b"), body: "\x00\xff", kind: "application/octet-stream", status: 204},
		{name: "rt write, JSON", method: "PUT", target: r("/writeFile?path=a"), body: "{}", status: 415, deviant: true},
		{name: "rt write, nowhere", method: "PUT", target: r("/writeFile"), body: "x", kind: "application/octet-stream", status: 400, deviant: true},
		{name: "rt write, huge", method: "PUT", target: r("/writeFile?path=a"), body: huge, kind: "application/octet-stream", status: 413},
		{name: "rt read", method: "GET", target: r("/readFile?path=a%20b"), status: 200, text: "\x00\xff"},
		{name: "rt read, none", method: "GET", target: r("/readFile?path=none"), status: 404},
		{name: "rt read, nowhere", method: "GET", target: r("/readFile"), status: 400, deviant: true},

		{name: "delete, running", method: "DELETE", target: w(2, ""), status: 409, text: `Cannot delete workspace in \"running\" state. Stop it first.`},
		{name: "stop", method: "POST", target: w(2, "/stop"), status: 200, text: `"status":"stopping"`},
		{name: "delete", method: "DELETE", target: w(5, ""), status: 204},
		{name: "stop, creating", method: "POST", target: w(1, "/stop"), status: 200, text: `"status":"stopping"`},
		{name: "delete, creating", method: "DELETE", target: w(4, ""), status: 204}, // it was started above
		{name: "delete, again", method: "DELETE", target: w(5, ""), status: 404},
	}
}

// place says where the document describes a shape of package api: a schema by
// its name, or the body or the answer of an operation that is at no other.
type place struct {
	schema, body, answer string
	members              []string // of the description, down to the shape
	shape                any
}

func places() []place {
	return []place{
		{schema: "Workspace", shape: api.Workspace{}},
		{schema: "WorkspaceList", shape: api.WorkspaceList{}},
		{schema: "NewWorkspace", shape: api.NewWorkspace{}},
		{schema: "Port", shape: api.Port{}},
		{schema: "Listener", shape: api.Listener{}},
		{schema: "NewPort", shape: api.NewPort{}},
		{schema: "Preference", shape: api.Preference{}},
		{schema: "PreferenceNote", shape: api.PreferenceNote{}},
		{schema: "PreferenceDifference", shape: api.PreferenceDifference{}},
		{schema: "PreferenceResolution", shape: api.PreferenceResolution{}},
		{schema: "Step", shape: api.Step{}},
		{schema: "Usage", shape: api.Usage{}},
		{schema: "NewLimits", shape: api.NewLimits{}},
		{schema: "Limits", shape: api.Limits{}},
		{schema: "LimitRange", shape: api.LimitRange{}},
		{schema: "Disk", shape: api.Disk{}},
		{schema: "DiskShare", shape: api.DiskShare{}},
		{schema: "DiskImage", shape: api.DiskImage{}},
		{schema: "Image", shape: api.Image{}},
		{schema: "NewImage", shape: api.NewImage{}},
		{schema: "Event", shape: api.Event{}},
		{schema: "Repository", shape: api.Repository{}},
		{schema: "RepositoryList", shape: api.RepositoryList{}},
		{schema: "RepositorySearch", shape: api.RepositorySearch{}},
		{schema: "Error", shape: api.Error{}},
		{schema: "Error", members: []string{"error"}, shape: api.ErrorDetail{}},
		{answer: "ping", shape: api.Acknowledgement{}},
		{answer: "logout", shape: api.Acknowledgement{}},
		{answer: "me", shape: api.Me{}},
		{answer: "me", members: []string{"user"}, shape: api.User{}},
		{body: "runtimeCreate", shape: api.NewContainer{}},
		{body: "runtimeStop", shape: api.Stop{}},
		{body: "runtimeConfigure", shape: api.IDEConfig{}},
		{body: "runtimeClone", shape: api.Clone{}},
		{answer: "runtimeStatus", shape: api.ContainerStatus{}},
		{answer: "runtimeAddress", shape: api.Address{}},
	}
}

// request is c for a handler.
func (c call) request() *nethttp.Request {
	r := httptest.NewRequest(c.method, "http://box.local:9080"+c.target, strings.NewReader(c.body))
	switch {
	case c.kind != "":
		r.Header.Set("Content-Type", c.kind)
	case strings.HasPrefix(c.body, "{"), strings.HasPrefix(c.body, "["):
		r.Header.Set("Content-Type", jsonKind)
	}
	if c.header[0] != "" {
		r.Header.Set(c.header[0], c.header[1])
	}
	return r
}

// TestOpenAPI_calls drives every route, good and bad, and holds requests and
// answers against the document.
func TestOpenAPI_calls(t *testing.T) {
	doc := document(t)
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
	s := server(fakeDB{})
	s.ControlPlane = newFake(agent.StatusCreating, agent.StatusRunning, agent.StatusStopping, agent.StatusStopped, agent.StatusError)
	h := s.Handler()
	succeeded := map[*openapi3.Operation]bool{}
	for _, c := range calls() {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, c.request())
			got := w.Body.String()
			if w.Code != c.status || !strings.Contains(got, c.text) {
				t.Fatalf("%d %.400s\nwant %d with %q", w.Code, got, c.status, c.text)
			}
			if strings.Contains(got, "s3cr3t") {
				t.Error("the answer has the token")
			}
			route := check(t, router, c, w)
			if w.Code < 400 {
				succeeded[route.Operation] = true
			}
		})
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !succeeded[op] && op.OperationID != "events" { // a stream of its own test
				t.Errorf("%s %s was never called with success", method, path)
			}
		}
	}
}

// check holds one call against the document.
func check(t *testing.T, router routers.Router, c call, w *httptest.ResponseRecorder) *routers.Route {
	t.Helper()
	r := c.request()
	route, params, err := router.FindRoute(&nethttp.Request{Method: r.Method, URL: &url.URL{Path: r.URL.Path}})
	if err != nil {
		t.Fatal(err)
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true,
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	err = openapi3filter.ValidateRequest(t.Context(), in)
	if (err != nil) != c.deviant && w.Code != 413 {
		t.Errorf("the document refuses the request: %v, want %v (%v)", err != nil, c.deviant, err)
	}
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: w.Code, Header: w.Header(),
		Body: io.NopCloser(strings.NewReader(w.Body.String())), Options: options,
	})
	if err != nil {
		t.Errorf("the document refuses the answer: %v\n%s", err, w.Body)
	}
	return route
}

// TestOpenAPI_faults: what fails inside is told as the document says, without
// its text, on every route that asks the control plane or the runtime.
func TestOpenAPI_faults(t *testing.T) {
	router, err := legacy.NewRouter(document(t))
	if err != nil {
		t.Fatal(err)
	}
	for status, fault := range map[int]error{
		500: errSecret,
		503: agent.Errorf(agent.CodeUnavailable, "Podman does not answer. It will be tried again."),
	} {
		f := newFake(agent.StatusRunning)
		f.fail = fault
		s := server(fakeDB{})
		s.ControlPlane, s.Runtime, s.Repositories = f, &fakeRuntime{fail: fault}, fakeRepositories{fail: fault}
		for _, c := range []call{
			{method: "GET", target: "/api/workspaces"},
			{method: "POST", target: "/api/workspaces", body: `{"name":"abc","image":""}`},
			{method: "GET", target: "/api/workspaces/" + id(1)},
			{method: "DELETE", target: "/api/workspaces/" + id(1)},
			{method: "POST", target: "/api/workspaces/" + id(1) + "/start"},
			{method: "GET", target: "/api/workspaces/" + id(1) + "/logs"},
			{method: "GET", target: "/api/settings"},
			{method: "GET", target: "/api/github/repos/search?q=x"},
			{method: "POST", target: "/api/runtime/" + id(1) + "/start"},
			{method: "GET", target: "/api/runtime/" + id(1) + "/status"},
		} {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, c.request())
			var body struct {
				Error   struct{ Code, Message string }
				Message string
				Status  int
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != status || body.Status != status || body.Message != body.Error.Message || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s %s: %d %s %v", c.method, c.target, w.Code, w.Body, err)
			}
			check(t, router, c, w)
		}
	}
}

// FuzzBody: whatever a body holds, decoding ends in a workspace that is valid
// or in a validation error.
func FuzzBody(f *testing.F) {
	for _, c := range calls() {
		if c.method == "POST" && len(c.body) < 1000 {
			f.Add([]byte(c.body))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := http.DecodeWorkspace(b)
		if err != nil && agent.ErrorCode(err) != agent.CodeValidation {
			t.Errorf("%v", err)
		}
		if err == nil && !json.Valid(b) {
			t.Error("accepted what is not JSON")
		}
	})
}
