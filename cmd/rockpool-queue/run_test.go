package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProgram_Run serves at the sockets that it is given, until it is ended.
func TestProgram_Run(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log bytes.Buffer
	p := program{err: &log, lookPath: noJava, inherited: func() ([]net.Listener, error) { return []net.Listener{l}, nil }}
	code := make(chan int)
	go func() { code <- p.run(ctx, nil) }()

	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.Addr().String(), strings.NewReader(`{"QueueName":"q"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AmazonSQS.CreateQueue")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || !strings.Contains(string(body), l.Addr().String()+"/000000000000/q") {
		t.Errorf("answered %s, %v", body, err)
	}
	stop()
	if got := <-code; got != 0 || log.Len() != 0 {
		t.Errorf("code %d, log %s", got, &log)
	}
}

func TestProgram_Run_Fails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	none := func() ([]net.Listener, error) { return nil, nil }
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"wrong flag":  {[]string{"--colour"}, 2, "colour"},
		"help":        {[]string{"--help"}, 0, "elasticmq"},
		"a busy port": {[]string{"--listen", taken.Addr().String()}, 1, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p := program{err: &log, lookPath: noJava, inherited: none}
			if code := p.run(t.Context(), c.args); code != c.code || !strings.Contains(log.String(), c.says) {
				t.Errorf("code %d: %s", code, &log)
			}
		})
	}
}

// TestProgram_ElasticMQ wants the user's ElasticMQ when there are a jar and a
// Java, and otherwise none.
func TestProgram_ElasticMQ(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	java := func(string) (string, error) { return "/usr/bin/java", nil }
	for name, c := range map[string]struct {
		files    []string
		lookPath func(string) (string, error)
		used     bool
		config   bool
		says     string
	}{
		"nothing":        {nil, java, false, false, ""},
		"a jar":          {[]string{"elasticmq.jar"}, java, true, false, "the queue is ElasticMQ"},
		"configuration":  {[]string{"elasticmq.jar", "elasticmq.conf"}, java, true, true, "the queue is ElasticMQ"},
		"without a Java": {[]string{"elasticmq.jar"}, noJava, false, false, "apt-get install"},
		"without a jar":  {[]string{"elasticmq.conf"}, java, false, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			p := program{err: &log, lookPath: c.lookPath}
			mq := p.elasticMQ(dir, l, p.log())
			if (mq != nil) != c.used || mq != nil && (mq.Config != "") != c.config || !strings.Contains(log.String(), c.says) || (c.says == "") != (log.Len() == 0) {
				t.Errorf("%+v, log %s", mq, &log)
			}
		})
	}
}

func noJava(string) (string, error) { return "", errors.New("there is none") }
