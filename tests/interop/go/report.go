package main

import (
	"encoding/json"
	"fmt"
	stdlog "log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/RichardKnop/machinery/v2/log"
	"github.com/RichardKnop/machinery/v2/tasks"
)

var output = struct {
	sync.Mutex
	*json.Encoder
}{Encoder: json.NewEncoder(os.Stdout)}

type object map[string]interface{}

// event is what a worker reports, with the time of it.
func event(kind string, more object) object {
	more["event"] = kind
	more["at"] = time.Now().UTC()
	return more
}

func printLine(line object) error {
	output.Lock()
	defer output.Unlock()
	return output.Encode(line)
}

// report is printLine where there is nobody to return an error to: a worker that cannot report is of no use.
func report(line object) {
	if err := printLine(line); err != nil {
		panic(err)
	}
}

// reportRun is called before each run of a task, with the signature as the message carried it.
func reportRun(signature *tasks.Signature) {
	report(event("run", object{
		"uuid":      signature.UUID,
		"name":      signature.Name,
		"args":      signature.Args,
		"headers":   signature.Headers,
		"signature": signature,
	}))
}

// reportDone is called when everything a run entails was written and sent.
func reportDone(signature *tasks.Signature) {
	report(event("done", object{"uuid": signature.UUID, "name": signature.Name}))
}

// reportError is called for failures of tasks and of the broker alike.
func reportError(err error) { report(event("error", object{"error": fmt.Sprint(err)})) }

// useQuietLog keeps the log off standard output and turns the line that every broker logs when it starts to consume
// into the report that the worker is ready.
func useQuietLog() {
	log.Set(quietLog{})
	log.SetInfo(quietLog{saysReady: true})
	log.SetWarning(errorLog())
	log.SetError(errorLog())
	log.SetFatal(errorLog())
}

// errorLog writes to standard error, where a failing test shows it.
func errorLog() *stdlog.Logger { return stdlog.New(os.Stderr, "gomachinery: ", stdlog.LstdFlags) }

type quietLog struct{ saysReady bool }

func (l quietLog) Print(values ...interface{}) {
	if l.saysReady && strings.Contains(fmt.Sprint(values...), "Waiting for messages") {
		report(event("ready", object{}))
	}
}
func (l quietLog) Printf(format string, values ...interface{}) {
	l.Print(fmt.Sprintf(format, values...))
}
func (l quietLog) Println(values ...interface{})             { l.Print(values...) }
func (quietLog) Fatal(values ...interface{})                 { errorLog().Fatal(values...) }
func (quietLog) Fatalf(format string, values ...interface{}) { errorLog().Fatalf(format, values...) }
func (quietLog) Fatalln(values ...interface{})               { errorLog().Fatalln(values...) }
func (quietLog) Panic(values ...interface{})                 { errorLog().Panic(values...) }
func (quietLog) Panicf(format string, values ...interface{}) { errorLog().Panicf(format, values...) }
func (quietLog) Panicln(values ...interface{})               { errorLog().Panicln(values...) }
