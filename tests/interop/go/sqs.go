package main

import (
	"flag"
	"strconv"

	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	"github.com/RichardKnop/machinery/v2/config"
)

var sqsSection config.SQSConfig

func init() {
	flag.IntVar(&sqsSection.WaitTimeSeconds, "sqs-wait-time", 1, "SQS: seconds that a look for a message may take")
	flag.Func("sqs-visibility-timeout", "SQS: seconds that a message is a worker's; left out: the queue's", func(text string) error {
		seconds, err := strconv.Atoi(text)
		sqsSection.VisibilityTimeout = &seconds
		return err
	})
	// The address is host:port/account, and so is what Go Machinery puts before the name of a queue.
	brokerMakers["sqs"] = func(cnf *config.Config, address string, _ options) (brokers.Broker, error) {
		cnf.Broker = "http://" + address
		cnf.SQS = &sqsSection
		return newSqs(cnf)
	}
}
