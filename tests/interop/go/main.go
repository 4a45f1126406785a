// Command gomachinery is the other side of the interoperability tests: the released Go Machinery as a
// worker, a sender and a reader of states, driven from outside through flags, standard input and JSON lines.
//
// Usage:
//
//	gomachinery [flags] worker                  run tasks until SIGTERM, report each run
//	gomachinery [flags] send                    send what standard input says, one JSON object a line
//	gomachinery [flags] result UUID [timeout]   wait for a result as a Go program would
//	gomachinery [flags] state UUID              read a state once
//	gomachinery [flags] pending [QUEUE]         list the signatures that wait in a queue
//	gomachinery [flags] delayed                 list the signatures that wait for their time
//	gomachinery [flags] group UUID COUNT        read the records of a group's members
//	gomachinery [flags] trigger                 ask for the right to send callbacks, one group's id a line
//	gomachinery [flags] periodic SPEC NAME      fire what the first line of input says at every tick, until SIGTERM
//	gomachinery cron                            say when schedules tick, one JSON object a line; needs no service
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	machinery "github.com/RichardKnop/machinery/v2"
)

const defaultResultTimeout = 10 * time.Second

func main() {
	var o options
	flag.StringVar(&o.client, "client", "redigo", "scheme of the addresses that name none: redigo or goredis")
	flag.StringVar(&o.broker, "broker", "127.0.0.1:6379", "address of the broker: host:port or scheme://…")
	flag.StringVar(&o.backend, "backend", "127.0.0.1:6379", "address of the result backend: host:port or scheme://…")
	flag.IntVar(&o.db, "db", 0, "number of the Redis database")
	flag.StringVar(&o.queue, "queue", "machinery_tasks", "default queue")
	flag.IntVar(&o.resultsExpireIn, "results-expire-in", 3600, "seconds for which results are kept")
	concurrency := flag.Int("concurrency", 4, "worker: how many tasks run at once")
	raw := flag.Bool("raw", false, "send: leave argument values as they came instead of making Go values of them")
	flag.Parse()

	useQuietLog()
	if err := run(o, *concurrency, *raw, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "gomachinery:", err)
		os.Exit(1)
	}
}

func run(o options, concurrency int, raw bool, words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("a command is missing: worker, send, result, state, pending, delayed, group, trigger, periodic or cron")
	}
	if len(words) == 1 && words[0] == "cron" {
		return answerCron(os.Stdin, os.Stdout)
	}
	if len(words) == 3 && words[0] == "periodic" {
		return firePeriodically(o, words[1], words[2], os.Stdin)
	}
	server, err := newServer(o)
	if err != nil {
		return err
	}
	switch command, rest := words[0], words[1:]; {
	case command == "worker" && len(rest) == 0:
		return work(server, concurrency)
	case command == "send" && len(rest) == 0:
		return send(server, os.Stdin, raw)
	case command == "result" && len(rest) == 1:
		return printResult(server, rest[0], defaultResultTimeout)
	case command == "result" && len(rest) == 2:
		timeout, err := time.ParseDuration(rest[1])
		if err != nil {
			return err
		}
		return printResult(server, rest[0], timeout)
	case command == "state" && len(rest) == 1:
		return printState(server, rest[0])
	case command == "pending" && len(rest) == 0:
		return printPending(server, "")
	case command == "pending" && len(rest) == 1:
		return printPending(server, rest[0])
	case command == "delayed" && len(rest) == 0:
		return printSignatures(server.GetBroker().GetDelayedTasks())
	case command == "group" && len(rest) == 2:
		return printGroup(server, rest[0], rest[1])
	case command == "trigger" && len(rest) == 0:
		return triggerChords(server, os.Stdin)
	default:
		return fmt.Errorf("not a command: %q", words)
	}
}

// work reports its start, then every run, and ends well after SIGTERM. Lines on standard input answer the task "hold".
func work(server *machinery.Server, concurrency int) error {
	if err := server.RegisterTasks(allTasks()); err != nil {
		return err
	}
	worker := server.NewWorker("gomachinery", concurrency)
	worker.SetPreTaskHandler(reportRun)
	worker.SetPostTaskHandler(reportDone)
	worker.SetErrorHandler(reportError)
	go offerAnswers(os.Stdin)
	if err := worker.Launch(); err != machinery.ErrWorkerQuitGracefully {
		return err
	}
	return nil
}
