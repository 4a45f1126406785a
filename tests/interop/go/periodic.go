//go:build !old

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	machinery "github.com/RichardKnop/machinery/v2"
	redislock "github.com/RichardKnop/machinery/v2/locks/redis"
)

// lockTries is how often the lock is tried for again, without a pause. With 0 Go's lock crashes.
const lockTries = 3

// firePeriodically registers what the first line of input says, as "send" reads it, under a schedule and a name, and
// fires it at every tick until SIGTERM. The lock is in Redis, whatever the broker's scheme.
func firePeriodically(o options, spec, name string, input io.Reader) error {
	var what sending
	decoder := json.NewDecoder(input)
	decoder.UseNumber()
	if err := decoder.Decode(&what); err != nil {
		return err
	}
	if err := what.makeGoValues(); err != nil {
		return err
	}
	unlocked, err := newServer(o)
	if err != nil {
		return err
	}
	_, address := splitAddress(o.broker, o.client)
	lock := redislock.New(unlocked.GetConfig(), []string{address}, o.db, lockTries)
	server := machinery.NewServer(unlocked.GetConfig(), unlocked.GetBroker(), unlocked.GetBackend(), lock)
	if err := registerPeriodic(server, spec, name, &what); err != nil {
		return err
	}
	stopped, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	report(event("ready", object{}))
	<-stopped.Done()
	return nil
}

func registerPeriodic(server *machinery.Server, spec, name string, what *sending) error {
	switch {
	case what.Chain != nil:
		return server.RegisterPeriodicChain(spec, name, what.Chain...)
	case what.Group != nil:
		return server.RegisterPeriodicGroup(spec, name, what.Concurrency, what.Group...)
	case what.Chord != nil:
		return server.RegisterPeriodicChord(spec, name, what.Concurrency, what.Chord.Callback, what.Chord.Group...)
	case what.Name != "":
		return server.RegisterPeriodicTask(spec, name, &what.Signature)
	default:
		return fmt.Errorf("neither a task nor a workflow: %+v", what)
	}
}
