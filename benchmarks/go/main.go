// gobench CLIENT WORD ARGUMENTS drives the released Go Machinery for the benchmark. CLIENT is go-redigo, go-redis or go-amqp; WORD is
// "worker", or one of benchmarks/client.py; ARGUMENTS is a JSON object. The environment says where the queue is (BENCH_BROKER),
// and where the results are (BENCH_URL).
package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	machinery "github.com/RichardKnop/machinery/v2"
	backends "github.com/RichardKnop/machinery/v2/backends/redis"
	amqp "github.com/RichardKnop/machinery/v2/brokers/amqp"
	brokers "github.com/RichardKnop/machinery/v2/brokers/redis"
	"github.com/RichardKnop/machinery/v2/config"
	locks "github.com/RichardKnop/machinery/v2/locks/eager"
	"github.com/RichardKnop/machinery/v2/log"
	"github.com/RichardKnop/machinery/v2/tasks"
)

const (
	concurrency  = 10                     // of a worker
	prefetch     = 50                     // messages that RabbitMQ gives it ahead; Go's own examples have 3
	sending      = 10                     // goroutines that send a chord
	looking      = 100 * time.Microsecond // between two looks for a result, which Go polls
	lookingAfter = time.Millisecond       // the same for a chord
	patience     = 10 * time.Minute       // longer than the benchmark waits
)

// arguments are those of all words.
type arguments struct {
	Count int     `json:"count"`
	Rate  float64 `json:"rate"`
}

type told map[string]any

var calls ledger

func add(number, one int64) (int64, error) {
	calls.note(number)
	return number + one, nil
}

func total(numbers ...int64) (int64, error) {
	var sum int64
	for _, number := range numbers {
		sum += number
	}
	return sum, nil
}

func main() {
	var given arguments
	check(json.Unmarshal([]byte(os.Args[3]), &given))
	log.Set(silence{})
	server, err := newServer(os.Args[1], os.Getenv("BENCH_BROKER"), os.Getenv("BENCH_URL"))
	check(err)
	check(server.RegisterTasks(map[string]any{"add": add, "total": total}))
	switch os.Args[2] {
	case "worker":
		check(server.NewWorker("bench", concurrency).Launch())
	case "send-each":
		print(sendEach(server, given))
	case "round-trips":
		print(roundTrips(server, given))
	case "send-paced":
		print(sendPaced(server, given))
	case "wait-ready":
		call(server, -1)
		print(told{})
	case "chord":
		print(runChord(server, given))
	default:
		panic("no such word: " + os.Args[2])
	}
}

func newServer(client, broker, where string) (*machinery.Server, error) {
	at, err := url.Parse(where)
	if err != nil {
		return nil, err
	}
	database, _ := strconv.Atoi(strings.Trim(at.Path, "/")) // no path: database 0
	conf := &config.Config{
		Broker:          broker,
		ResultBackend:   where,
		DefaultQueue:    "machinery_tasks",
		ResultsExpireIn: 3600,
		NoUnixSignals:   true,
		Redis: &config.RedisConfig{
			MaxIdle: 2 * concurrency, IdleTimeout: 240, ReadTimeout: 15, WriteTimeout: 15, ConnectTimeout: 15,
			NormalTasksPollPeriod: 1000, DelayedTasksPollPeriod: 500,
		},
	}
	// With a binding key that is not the queue's name, what is sent before a worker has declared the queue gets elsewhere.
	conf.AMQP = &config.AMQPConfig{
		Exchange: "machinery_exchange", ExchangeType: "direct", BindingKey: conf.DefaultQueue, PrefetchCount: prefetch,
	}
	password, _ := at.User.Password()
	switch client {
	case "go-redigo":
		return machinery.NewServer(conf, brokers.New(conf, at.Host, at.User.Username(), password, "", database),
			backends.New(conf, at.Host, at.User.Username(), password, "", database), locks.New()), nil
	case "go-redis":
		return machinery.NewServer(conf, brokers.NewGR(conf, []string{at.Host}, database),
			backends.NewGR(conf, []string{at.Host}, database), locks.New()), nil
	case "go-amqp":
		return machinery.NewServer(conf, amqp.New(conf),
			backends.New(conf, at.Host, at.User.Username(), password, "", database), locks.New()), nil
	}
	return nil, fmt.Errorf("no such client: %s", client)
}

func signature(number int) *tasks.Signature {
	return &tasks.Signature{Name: "add", Args: []tasks.Arg{{Type: "int64", Value: number}, {Type: "int64", Value: 1}}}
}

func print(what told) { check(json.NewEncoder(os.Stdout).Encode(what)) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// silence is a logger that says nothing.
type silence struct{}

func (silence) Print(...any)              {}
func (silence) Printf(string, ...any)     {}
func (silence) Println(...any)            {}
func (silence) Fatal(what ...any)         { panic(fmt.Sprint(what...)) }
func (silence) Fatalf(f string, w ...any) { panic(fmt.Sprintf(f, w...)) }
func (silence) Fatalln(what ...any)       { panic(fmt.Sprint(what...)) }
func (silence) Panic(what ...any)         { panic(fmt.Sprint(what...)) }
func (silence) Panicf(f string, w ...any) { panic(fmt.Sprintf(f, w...)) }
func (silence) Panicln(what ...any)       { panic(fmt.Sprint(what...)) }
