//go:build old

package main

// What the constructors of v2.0.13 look like; release_new.go has those of v2.0.16.

import (
	"errors"
	"io"

	dynamodbbackend "github.com/RichardKnop/machinery/v2/backends/dynamodb"
	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	redisbackend "github.com/RichardKnop/machinery/v2/backends/redis"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	redisbroker "github.com/RichardKnop/machinery/v2/brokers/redis"
	"github.com/RichardKnop/machinery/v2/config"
	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/dynamodb"
)

func newRedigoBroker(cnf *config.Config, address string, db int) brokers.Broker {
	return redisbroker.New(cnf, address, "", "", db)
}

func newRedigoBackend(cnf *config.Config, address string, db int) backends.Backend {
	return redisbackend.New(cnf, address, "", "", db)
}

// newDynamodb makes the result backend; what Amazon's client wants besides the address is in the environment.
func newDynamodb(cnf *config.Config, address string) (backends.Backend, error) {
	made, err := session.NewSession(&aws.Config{Endpoint: aws.String("http://" + address)})
	if err != nil {
		return nil, err
	}
	cnf.DynamoDB.Client = dynamodb.New(made)
	return dynamodbbackend.New(cnf), nil
}

// firePeriodically cannot be had: the Redis lock of v2.0.13 does not compile with the Redis client that it requires.
func firePeriodically(options, string, string, io.Reader) error {
	return errors.New("v2.0.13 has no Redis lock that compiles")
}
