//go:build !old

package main

// What the constructors of v2.0.16 look like; release_old.go has those of v2.0.13.

import (
	"os"

	dynamodbbackend "github.com/RichardKnop/machinery/v2/backends/dynamodb"
	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	redisbackend "github.com/RichardKnop/machinery/v2/backends/redis"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	redisbroker "github.com/RichardKnop/machinery/v2/brokers/redis"
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
