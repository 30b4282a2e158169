// A worker in Go, behind NATS, in the dialect `reply`: the handlers noop, authz and work.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o worker-go ./worker     with Debian's packages, or
//	go mod init worker && go mod tidy && go build -o worker-go .                with Go's modules
//	worker-go PLUGIN [PREFIX]     the broker, group and credentials come from the environment, see docs/plugins.md
//
// nats.go runs each subscription's handler in its own goroutine, so the four phases run concurrently.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/vmihailenco/msgpack/v5"
)

const (
	lifecycle = iota
	requestFilter
	responseFilter
	responseBodyFilter
	logging
)

var phaseNames = [...]string{
	"lifecycle", "request_filter", "response_filter", "response_body_filter", "logging",
}

// request is what the host publishes.
type request struct {
	RequestID interface{}       `msgpack:"request_id"` // a string or 16 bytes, echoed with its type
	SessionID uint32            `msgpack:"session_id"`
	Timestamp int64             `msgpack:"timestamp"` // Unix milliseconds
	Data      []byte            `msgpack:"data"`
	Headers   map[string]string `msgpack:"headers"`
}

type reply struct {
	Version   int         `msgpack:"version"`
	RequestID interface{} `msgpack:"request_id,omitempty"`
	SessionID uint32      `msgpack:"session_id"`
	Action    string      `msgpack:"action"`
	Data      []byte      `msgpack:"data,omitempty"`
	Error     string      `msgpack:"error,omitempty"`
}

// context is one phase of a session: reads are local, changes are collected.
type context struct {
	phase     int
	request   *request
	http      httpContext
	isChanged bool
}

func (c *context) setResponseHeader(key, value string) {
	c.http.setResponseHeader(key, value)
	c.isChanged = true
}

func (c *context) durationMilliseconds() int64 { return time.Now().UnixMilli() - c.request.Timestamp }

var handlers = map[string]func(*context){"noop": noop, "authz": authz, "work": work}

func noop(*context) {}

// authz does two reads, sets two headers and logs a line.
func authz(c *context) {
	switch c.phase {
	case requestFilter:
		_, _ = c.http.method(), c.http.path()
		c.setResponseHeader("X-Plugin-Transport", "NATS")
	case responseFilter:
		c.setResponseHeader("X-Processed-By", "NATS-Worker")
	case logging:
		accessLog.add(line{c.http.method(), c.http.path(), c.http.status(), c.durationMilliseconds()})
	}
}

var workMicroseconds int64 = 100

// work burns CPU in the request filter.
func work(c *context) {
	if c.phase == requestFilter {
		end := time.Now().Add(time.Duration(atomic.LoadInt64(&workMicroseconds)) * time.Microsecond)
		for time.Now().Before(end) {
		}
	}
}

type line struct {
	method, path         string
	status               uint16
	durationMilliseconds int64
}

// log has the last lines of the access log, in memory. Only the goroutine of the logging phase writes them.
type log struct {
	lines [1024]line
	count int
}

var accessLog log

func (l *log) add(line line) {
	l.lines[l.count%len(l.lines)] = line
	l.count++
}

func initialize(configJSON []byte) error {
	configuration := struct {
		WorkMicroseconds int64 `json:"work_us"`
	}{100}
	if err := json.Unmarshal(configJSON, &configuration); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	atomic.StoreInt64(&workMicroseconds, configuration.WorkMicroseconds)
	return nil
}

// run runs the request's handler and returns the table of its changes, nil if there are none.
func run(phase int, request *request) (changes []byte, err error) {
	// Reading data that is not a table panics.
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("request: %v", cause)
		}
	}()
	if phase == lifecycle {
		if request.Headers["method"] == "initialize" {
			return nil, initialize(request.Data)
		}
		return nil, nil
	}
	handler := handlers[request.Headers["entry"]]
	if handler == nil {
		return nil, fmt.Errorf("no entry '%.100s'; this worker has: noop, authz, work", request.Headers["entry"])
	}
	c := &context{phase: phase, request: request, http: newHTTPContext(request.Data)}
	handler(c)
	if c.isChanged {
		changes = c.http.changes()
	}
	return changes, nil
}

func answer(phase int, payload []byte) reply {
	var in request
	if err := msgpack.Unmarshal(payload, &in); err != nil {
		return reply{Version: 1, Error: err.Error()}
	}
	out := reply{Version: 1, RequestID: in.RequestID, SessionID: in.SessionID, Action: "next"}
	changes, err := run(phase, &in)
	out.Data = changes
	if err != nil {
		out.Action, out.Error = "error", err.Error()
	}
	return out
}

func options() []nats.Option {
	options := []nats.Option{nats.MaxReconnects(-1)}
	if token := os.Getenv("NATS_TOKEN"); token != "" {
		options = append(options, nats.Token(token))
	}
	if user := os.Getenv("NATS_USER"); user != "" {
		options = append(options, nats.UserInfo(user, os.Getenv("NATS_PASSWORD")))
	}
	if file := os.Getenv("NATS_CREDS"); file != "" {
		options = append(options, nats.UserCredentials(file))
	}
	return options
}

func setting(name, standard string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return standard
}

func serve(plugin, prefix string) error {
	closed := make(chan struct{})
	connection, err := nats.Connect(
		setting("NATS_SERVERS", nats.DefaultURL),
		append(options(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...)
	if err != nil {
		return err
	}
	group := setting("NATS_GROUP", "default")
	for phase, name := range phaseNames {
		phase := phase
		handle := func(message *nats.Msg) {
			payload, err := msgpack.Marshal(answer(phase, message.Data))
			if err == nil && message.Reply != "" {
				err = message.Respond(payload)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "worker-go:", err)
			}
		}
		subject := strings.Join([]string{prefix, plugin, name}, ".")
		if phase == lifecycle {
			_, err = connection.Subscribe(subject, handle)
		} else {
			_, err = connection.QueueSubscribe(subject, group, handle)
		}
		if err != nil {
			return err
		}
	}
	if err := connection.Flush(); err != nil {
		return err
	}
	fmt.Printf("Plugin %s started successfully\n", plugin)

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	// Finishes the received requests.
	if err := connection.Drain(); err != nil {
		return err
	}
	<-closed
	return nil
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: worker-go PLUGIN [PREFIX]")
		os.Exit(64)
	}
	prefix := "nylon.plugin"
	if len(os.Args) > 2 {
		prefix = os.Args[2]
	}
	if err := serve(os.Args[1], prefix); err != nil {
		fmt.Fprintln(os.Stderr, "worker-go:", err)
		os.Exit(69)
	}
}
