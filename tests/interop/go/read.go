package main

import (
	"time"

	machinery "github.com/RichardKnop/machinery/v2"
	"github.com/RichardKnop/machinery/v2/backends/result"
	"github.com/RichardKnop/machinery/v2/tasks"
)

const pollPause = 5 * time.Millisecond

// printResult waits through AsyncResult and prints what a Go program gets: the state, each result as the Go
// value it was converted to beside what the store holds, and the error's text.
func printResult(server *machinery.Server, uuid string, timeout time.Duration) error {
	asked := result.NewAsyncResult(&tasks.Signature{UUID: uuid}, server.GetBackend())
	values, err := asked.GetWithTimeout(timeout, pollPause)
	state := asked.GetState()
	results := make([]object, len(values))
	for i, value := range values {
		results[i] = object{
			"type":  value.Type().String(),
			"value": value.Interface(),
			"raw":   state.Results[i],
		}
	}
	return printLine(object{"state": state.State, "results": results, "error": textOf(err)})
}

// printState prints the record itself; for a task without one, the error alone.
func printState(server *machinery.Server, uuid string) error {
	state, err := server.GetBackend().GetState(uuid)
	if err != nil {
		return printLine(object{"error": textOf(err)})
	}
	return printLine(object{"state": state})
}

// printPending prints what waits in a queue. On AMQP Go lists only what it has tasks for.
func printPending(server *machinery.Server, queue string) error {
	if err := server.RegisterTasks(allTasks()); err != nil {
		return err
	}
	return printSignatures(server.GetBroker().GetPendingTasks(queue))
}

// printSignatures prints what the broker listed, in its order.
func printSignatures(signatures []*tasks.Signature, err error) error {
	if err != nil {
		return err
	}
	return printLine(object{"signatures": signatures})
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
