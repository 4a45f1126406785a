//go:build !old

package main

// What the constructors of v2.0.16 look like; release_old.go has those of v2.0.13.

import (
	"net/url"
	"os"

	dynamodbbackend "github.com/RichardKnop/machinery/v2/backends/dynamodb"
	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	redisbackend "github.com/RichardKnop/machinery/v2/backends/redis"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	redisbroker "github.com/RichardKnop/machinery/v2/brokers/redis"
	sqsbroker "github.com/RichardKnop/machinery/v2/brokers/sqs"
	"github.com/RichardKnop/machinery/v2/config"
)

func newRedigoBroker(cnf *config.Config, address string, db int) brokers.Broker {
	return redisbroker.New(cnf, address, "", "", "", db)
}

func newRedigoBackend(cnf *config.Config, address string, db int) backends.Backend {
	return redisbackend.New(cnf, address, "", "", "", db)
}

// newDynamodb makes the result backend; what Amazon's client wants besides the address is in the environment.
func newDynamodb(cnf *config.Config, address string) (backends.Backend, error) {
	if err := os.Setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://"+address); err != nil {
		return nil, err
	}
	return dynamodbbackend.New(cnf)
}

// newSqs makes the broker; what Amazon's client wants besides the address is in the environment.
func newSqs(cnf *config.Config) (brokers.Broker, error) {
	where, err := url.Parse(cnf.Broker)
	if err != nil {
		return nil, err
	}
	if err := os.Setenv("AWS_ENDPOINT_URL_SQS", "http://"+where.Host); err != nil {
		return nil, err
	}
	return sqsbroker.New(cnf)
}
