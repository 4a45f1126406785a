package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/RichardKnop/machinery/v2/tasks"
)

// allTasks are the tasks by name. The Python application of these tests registers the same names, so that
// a signature means the same whoever runs it.
func allTasks() map[string]interface{} {
	all := map[string]interface{}{
		"add":         add,
		"multiply":    multiply,
		"concat":      concat,
		"join":        join,
		"two_strings": twoStrings,
		"nothing":     nothing,
		"noargs":      noargs,
		"fail":        fail,
		"panic_task":  panicTask,
		"fail_times":  failTimes,
		"retry_later": retryLater,
		"headers":     headers,
		"on_error":    onError,
		"hold":        hold,
		"runs_in_go":  runsInGo,
	}
	for name, echo := range echoTasks() {
		all[name] = echo
	}
	return all
}

func add(numbers ...int64) (int64, error) {
	total := int64(0)
	for _, n := range numbers {
		total += n
	}
	return total, nil
}

func multiply(numbers ...int64) (int64, error) {
	product := int64(1)
	for _, n := range numbers {
		product *= n
	}
	return product, nil
}

func concat(texts []string) (string, error) { return strings.Join(texts, ""), nil }

// join keeps its arguments apart, so that their order and number can be seen.
func join(texts ...string) (string, error) { return strings.Join(texts, "|"), nil }

func twoStrings() (string, string, error) { return "foo", "bar", nil }

func nothing() error { return nil }

func noargs() (string, error) { return "no arguments", nil }

func fail(message string) error { return errors.New(message) }

func panicTask(message string) error { panic(message) }

// failTimes fails in its first n runs in this process, counted by the task's id, and answers which run succeeded.
func failTimes(ctx context.Context, n int64) (int64, error) {
	run := countRun(ctx)
	if run <= n {
		return 0, fmt.Errorf("run %d of %d to fail", run, n)
	}
	return run, nil
}

// retryLater asks to be run again in some milliseconds the first time, and answers the message the second time.
func retryLater(ctx context.Context, message string, milliseconds int64) (string, error) {
	if countRun(ctx) == 1 {
		return "", tasks.NewErrRetryTaskLater(message, time.Duration(milliseconds)*time.Millisecond)
	}
	return message, nil
}

// headers answers the headers the task came with, as JSON text.
func headers(ctx context.Context) (string, error) {
	text, err := json.Marshal(tasks.SignatureFromContext(ctx).Headers)
	return string(text), err
}

// onError answers what an error callback was called with: the error's text first, then its own arguments.
func onError(text string, own ...string) (string, error) {
	return strings.Join(append([]string{text}, own...), "|"), nil
}

// hold runs until somebody answers it with a line on the worker's standard input, and answers that line.
func hold() (string, error) { return <-answers, nil }

// runsInGo is known to workers of this program alone.
func runsInGo() (string, error) { return "go", nil }

var answers = make(chan string)

// offerAnswers gives each line to one task that holds.
func offerAnswers(input io.Reader) {
	lines := bufio.NewScanner(input)
	for lines.Scan() {
		answers <- lines.Text()
	}
}

var runs = struct {
	sync.Mutex
	byID map[string]int64
}{byID: map[string]int64{}}

func countRun(ctx context.Context) int64 {
	runs.Lock()
	defer runs.Unlock()
	id := tasks.SignatureFromContext(ctx).UUID
	runs.byID[id]++
	return runs.byID[id]
}
