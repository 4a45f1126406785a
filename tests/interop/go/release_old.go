//go:build old

package main

// What the constructors of v2.0.13 look like; release_new.go has those of v2.0.16.

import (
	"errors"
	"io"
	"net/url"

	dynamodbbackend "github.com/RichardKnop/machinery/v2/backends/dynamodb"
	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	redisbackend "github.com/RichardKnop/machinery/v2/backends/redis"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	redisbroker "github.com/RichardKnop/machinery/v2/brokers/redis"
	sqsbroker "github.com/RichardKnop/machinery/v2/brokers/sqs"
	"github.com/RichardKnop/machinery/v2/config"
	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/dynamodb"
	"github.com/aws/aws-sdk-go/service/sqs"
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

// newSqs makes the broker; what Amazon's client wants besides the address is in the environment.
func newSqs(cnf *config.Config) (brokers.Broker, error) {
	where, err := url.Parse(cnf.Broker)
	if err != nil {
		return nil, err
	}
	made, err := session.NewSession(&aws.Config{Endpoint: aws.String("http://" + where.Host)})
	if err != nil {
		return nil, err
	}
	cnf.SQS.Client = sqs.New(made)
	return sqsbroker.New(cnf), nil
}

// firePeriodically cannot be had: the Redis lock of v2.0.13 does not compile with the Redis client that it requires.
func firePeriodically(options, string, string, io.Reader) error {
	return errors.New("v2.0.13 has no Redis lock that compiles")
}
