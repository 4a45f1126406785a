package main

import (
	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	redisbackend "github.com/RichardKnop/machinery/v2/backends/redis"
	brokers "github.com/RichardKnop/machinery/v2/brokers/iface"
	redisbroker "github.com/RichardKnop/machinery/v2/brokers/redis"
	"github.com/RichardKnop/machinery/v2/config"
)

// Go Machinery has two Redis clients, each with a broker and a backend of its own: "redigo" and "goredis".
func init() {
	brokerMakers["redigo"] = func(cnf *config.Config, address string, o options) (brokers.Broker, error) {
		useRedis(cnf)
		return newRedigoBroker(cnf, address, o.db), nil
	}
	brokerMakers["goredis"] = func(cnf *config.Config, address string, o options) (brokers.Broker, error) {
		useRedis(cnf)
		return redisbroker.NewGR(cnf, []string{address}, o.db), nil
	}
	backendMakers["redigo"] = func(cnf *config.Config, address string, o options) (backends.Backend, error) {
		useRedis(cnf)
		return newRedigoBackend(cnf, address, o.db), nil
	}
	backendMakers["goredis"] = func(cnf *config.Config, address string, o options) (backends.Backend, error) {
		useRedis(cnf)
		return redisbackend.NewGR(cnf, []string{address}, o.db), nil
	}
}

// useRedis shortens the poll for due tasks, since Go moves one task per poll, and leaves the rest at Go's defaults.
func useRedis(cnf *config.Config) {
	cnf.Redis = &config.RedisConfig{
		MaxIdle:                10,
		MaxActive:              100,
		IdleTimeout:            300,
		Wait:                   true,
		ReadTimeout:            15,
		WriteTimeout:           15,
		ConnectTimeout:         15,
		NormalTasksPollPeriod:  1000,
		DelayedTasksPollPeriod: 50,
	}
}
