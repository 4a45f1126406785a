package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"

	amqpbackend "github.com/RichardKnop/machinery/v2/backends/amqp"
	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	amqpbroker "github.com/RichardKnop/machinery/v2/brokers/amqp"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	"github.com/RichardKnop/machinery/v2/config"
)

// amqpSection is what flags say of the section of RabbitMQ; broker and result backend share it, as they do in Go.
var amqpSection = config.AMQPConfig{QueueDeclareArgs: config.QueueDeclareArgs{}}

func init() {
	flag.StringVar(&amqpSection.Exchange, "amqp-exchange", "machinery_exchange", "AMQP: the exchange")
	flag.StringVar(&amqpSection.ExchangeType, "amqp-exchange-type", "direct", "AMQP: its type")
	flag.StringVar(&amqpSection.BindingKey, "amqp-binding-key", "machinery_task", "AMQP: routing key of the default queue")
	flag.IntVar(&amqpSection.PrefetchCount, "amqp-prefetch-count", 3, "AMQP: how many messages a worker may hold; 0: no limit")
	flag.Var(declareArgs(amqpSection.QueueDeclareArgs), "amqp-queue-declare-args", "AMQP: arguments of queues, a JSON object")
	flag.StringVar(&amqpSection.DelayedQueue, "amqp-delayed-queue", "", "AMQP: the one queue for delayed tasks; empty: one for each")

	for _, scheme := range []string{"amqp", "amqps"} {
		brokerMakers[scheme] = func(cnf *config.Config, _ string, _ options) (brokers.Broker, error) {
			cnf.AMQP = &amqpSection
			return amqpbroker.New(cnf), nil
		}
		backendMakers[scheme] = func(cnf *config.Config, _ string, _ options) (backends.Backend, error) {
			cnf.AMQP = &amqpSection
			return amqpbackend.New(cnf), nil
		}
	}
}

// declareArgs are the arguments with the types that Go Machinery's YAML would give them: whole numbers are ints.
type declareArgs config.QueueDeclareArgs

func (declareArgs) String() string { return "{}" }

func (args declareArgs) Set(text string) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var given map[string]interface{}
	if err := decoder.Decode(&given); err != nil {
		return err
	}
	for name, value := range given {
		if number, isNumber := value.(json.Number); isNumber {
			whole, err := number.Int64()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			value = int(whole)
		}
		args[name] = value
	}
	return nil
}
