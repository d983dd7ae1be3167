package elasticmq

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// asJava has the test's program behave as Java does when it runs ElasticMQ: it
// listens where it is told, and answers with its arguments.
const asJava = "ROCKPOOL_TEST_AS_JAVA"

func TestMain(m *testing.M) {
	switch os.Getenv(asJava) {
	case "":
		os.Exit(m.Run())
	case "fails":
		os.Exit(3)
	}
	var address [2]string
	for _, arg := range os.Args {
		for i, name := range []string{"-Drest-sqs.bind-hostname=", "-Drest-sqs.bind-port="} {
			if value, ok := strings.CutPrefix(arg, name); ok {
				address[i] = value
			}
		}
	}
	fmt.Println(http.ListenAndServe(net.JoinHostPort(address[0], address[1]), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Join(os.Args[1:], "\n"))
	})))
	os.Exit(1)
}

// listeners are two sockets and the first one's address.
func listeners(t *testing.T) ([]net.Listener, string) {
	t.Helper()
	var all []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		all = append(all, l)
	}
	return all, all[0].Addr().String()
}

func TestServer_Serve(t *testing.T) {
	t.Setenv(asJava, "serves")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ls, address := listeners(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	s := &Server{Java: self, Jar: "/jars/elasticmq.jar", Config: "/jars/elasticmq.conf", Port: 9324, Out: t.Output()}
	served := make(chan error)
	go func() { served <- s.Serve(ctx, ls) }()

	// The first request waits until it listens.
	for _, l := range ls {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		args := strings.Split(string(body), "\n")
		for _, want := range []string{"-Dnode-address.port=9324", "-Dconfig.file=/jars/elasticmq.conf"} {
			if !slices.Contains(args, want) {
				t.Errorf("Java's arguments lack %s: %q", want, args)
			}
		}
		if last := args[len(args)-2:]; !slices.Equal(last, []string{"-jar", "/jars/elasticmq.jar"}) {
			t.Errorf("the last arguments are %q", last)
		}
	}

	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("its socket is open")
	}
}

func TestServer_Serve_Ends(t *testing.T) {
	t.Setenv(asJava, "fails")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ls, address := listeners(t)
	client, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = (&Server{Java: self, Jar: "x.jar", Port: 9324, Out: t.Output()}).Serve(t.Context(), ls)
	if err == nil || !strings.Contains(err.Error(), "ElasticMQ ended: exit status 3") {
		t.Errorf("error %v", err)
	}
	err = (&Server{Java: "/nowhere/java", Jar: "x.jar", Port: 9324, Out: t.Output()}).Serve(t.Context(), ls)
	if err == nil || !strings.Contains(err.Error(), "start Java") {
		t.Errorf("error %v", err)
	}
}
